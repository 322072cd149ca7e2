"""How often somebody calls and how much somebody keeps open, by name, in memory that no number of names outgrows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

NAMES_MAX: Final = 65_536
"""Of one generation; two are kept. More names than this call a process in the time in which a bucket fills up."""
# Sums of times are off by less.
_ROUNDING_S: Final = 1e-6


@dataclass(frozen=True)
class Rate:
    """So many calls a second, and `burst` of them at once after a rest."""

    per_s: float
    burst: int


class Buckets:
    """A token bucket for each name.

    Of a bucket only the time is kept at which it will be full again. Those that nobody took from while NAMES_MAX other
    names came are forgotten: by then they are full, and a new one is as good.
    """

    def __init__(self, rate: Rate, names_max: int = NAMES_MAX) -> None:
        self._interval_s = 1 / rate.per_s
        self._window_s = rate.burst / rate.per_s
        self._names_max = names_max
        self._young: dict[str, float] = {}
        self._old: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def take(self, name: str, now: float) -> float:
        """Takes a token; or takes none, and says in how many seconds there will be one. 0 when it took one."""
        full_at = self._young.get(name)
        if full_at is None:
            full_at = self._remembered(name)
        full_at = max(full_at, now)
        wait_s = full_at + self._interval_s - self._window_s - now
        if wait_s > _ROUNDING_S:
            self._young[name] = full_at
            return wait_s
        self._young[name] = full_at + self._interval_s
        return 0.0

    def _remembered(self, name: str) -> float:
        full_at = self._old.pop(name, 0.0)
        if len(self._young) >= self._names_max:
            self._old, self._young = self._young, {}
        return full_at


class Places:
    """How many things each name has open, at most `places` at a time. Who has none open is not remembered."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._taken: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, name: str) -> Callable[[], None] | None:
        """A place, to be given back by calling what is returned, once; None when all are taken."""
        taken = self._taken.get(name, 0)
        if taken >= self.places:
            return None
        self._taken[name] = taken + 1
        return lambda: self._give_back(name)

    def _give_back(self, name: str) -> None:
        left = self._taken[name] - 1
        if left:
            self._taken[name] = left
        else:
            del self._taken[name]
