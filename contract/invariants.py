"""What must always be true, by the name under which it is checked, shown and watched."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Invariant(StrEnum):
    """The seven, in their order; the name is also the label on the metrics."""

    TICKETS = "tickets"
    CHARGES = "charges"
    TOTALS = "totals"
    RELEASES = "releases"
    LEDGER = "ledger"
    HISTORY = "history"
    REPEATS = "repeats"

    @property
    def number(self) -> int:
        """Its number in docs/states.md."""
        return list(Invariant).index(self) + 1


CLAIMS: Final[Mapping[Invariant, str]] = {
    Invariant.TICKETS: "A ticket has at most one live reservation and is sold at most once",
    Invariant.CHARGES: "A charged payment is applied to its reservation or goes back; never both, never neither",
    Invariant.TOTALS: "Open and applied stay within the total; CONFIRMED is paid; only a person takes a sale back",
    Invariant.RELEASES: "No live reservation is older than its release_time plus two sweeps",
    Invariant.LEDGER: "The ledger sums to zero and agrees with the card processor's statement",
    Invariant.HISTORY: "Every change of state has its history row and its message",
    Invariant.REPEATS: "Repeating or reordering any message changed nothing",
}
