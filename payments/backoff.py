"""When to try again what nobody answered. Pure: `jitter` is an argument."""

from typing import Final

# Quick at first, because a person waits.
CHARGE_FIRST_S: Final = 0.1
CHARGE_MAX_S: Final = 15.0
# A refund that fails a few times fails for a reason that takes long to go away.
REFUND_QUICK_S: Final = (0.2, 1.0, 5.0)
REFUND_FIRST_S: Final = 15.0
REFUND_MAX_S: Final = 3600.0
_DOUBLINGS_MAX: Final = 30


def charge_s(attempts: int, jitter: float) -> float:
    """How long to wait after so many failed attempts (1 or more); `jitter` in [0, 1) spreads it over the upper half."""
    return _jittered(_doubled(CHARGE_FIRST_S, attempts - 1, CHARGE_MAX_S), jitter)


def refund_s(attempts: int, jitter: float) -> float:
    """The same for a refund: a few quick attempts, then from 15 s to 1 h."""
    quick = len(REFUND_QUICK_S)
    if attempts <= quick:
        return _jittered(REFUND_QUICK_S[attempts - 1], jitter)
    return _jittered(_doubled(REFUND_FIRST_S, attempts - 1 - quick, REFUND_MAX_S), jitter)


def _doubled(first_s: float, times: int, max_s: float) -> float:
    return min(max_s, first_s * 2.0 ** min(times, _DOUBLINGS_MAX))


def _jittered(delay_s: float, jitter: float) -> float:
    return delay_s * (0.5 + jitter / 2)
