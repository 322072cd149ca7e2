"""When to try again what nobody answered. Pure: `jitter` is an argument."""

from typing import Final

# Quick at first, because a person waits; and never long, because whoever did not answer may answer again any moment.
UNANSWERED_FIRST_S: Final = 0.1
UNANSWERED_MAX_S: Final = 15.0
# What is refused a few times is refused for a reason that takes long to go away.
REFUSED_QUICK_S: Final = (0.2, 1.0, 5.0)
REFUSED_FIRST_S: Final = 15.0
REFUSED_MAX_S: Final = 3600.0
_DOUBLINGS_MAX: Final = 30


def unanswered_s(attempts: int, jitter: float) -> float:
    """How long to wait after so many failed attempts (1 or more); `jitter` in [0, 1) spreads it over the upper half."""
    return _jittered(_doubled(UNANSWERED_FIRST_S, attempts - 1, UNANSWERED_MAX_S), jitter)


def refused_s(attempts: int, jitter: float) -> float:
    """The same where the last attempt was refused: a few quick ones, then from 15 s to 1 h."""
    quick = len(REFUSED_QUICK_S)
    if attempts <= quick:
        return _jittered(REFUSED_QUICK_S[attempts - 1], jitter)
    return _jittered(_doubled(REFUSED_FIRST_S, attempts - 1 - quick, REFUSED_MAX_S), jitter)


def _doubled(first_s: float, times: int, max_s: float) -> float:
    return min(max_s, first_s * 2.0 ** min(times, _DOUBLINGS_MAX))


def _jittered(delay_s: float, jitter: float) -> float:
    return delay_s * (0.5 + jitter / 2)
