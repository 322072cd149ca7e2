"""How long a call may still take."""

from typing import Final

from chassis.interceptor import Context

# What is kept of a call's time for the answer to travel; of a very short time, half.
ANSWER_MARGIN_S: Final = 0.1


def left_s(context: Context, max_s: float) -> float:
    """Seconds in which the call must be answered to reach its caller before the deadline; at most `max_s`."""
    remaining_s = context.time_remaining()
    if remaining_s is None:
        return max_s
    return min(max(remaining_s - ANSWER_MARGIN_S, remaining_s / 2), max_s)
