"""All rules at once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.checker import endings, money, tickets, told
from chaos.checker.evidence import Evidence, Violation

RULES: Final = (
    told.ANSWERED,
    told.ONE_ANSWER,
    told.KEPT,
    told.BOOKED,
    told.SALE_STANDS,
    told.NEVER_BACK,
    told.ONE_CONTENT,
    told.AS_ASKED,
    told.WATCHED,
    told.DOCUMENTED,
    tickets.NEVER_TWICE,
    tickets.AS_HELD,
    tickets.ALL_OR_NOTHING,
    tickets.COUNTED,
    money.TICKET_OR_REFUND,
    money.NOT_CHARGED,
    money.PAID_IN_FULL,
    money.TO_THE_CENT,
    money.WALLET,
    money.ONE_EFFECT,
    endings.FINAL,
    endings.STEPS,
    endings.ALONE,
)


@dataclass(frozen=True)
class Verdict:
    """What was found: every violation, and how many requests were lost (rightly or not) or had two effects."""

    violations: Sequence[Violation]
    lost: Counter[str]
    doubled: int


def judge(evidence: Evidence) -> Verdict:
    """Checks every rule; `lost` is counted by cell."""
    checks = (told.check, tickets.check, money.check, endings.check)
    return Verdict(
        violations=[violation for check in checks for violation in check(evidence)],
        lost=Counter(request.cell for request in told.lost(evidence)),
        doubled=sum(1 for _ in money.doubled(evidence)),
    )
