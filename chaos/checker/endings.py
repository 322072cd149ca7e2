"""Endings: everything comes to one, by allowed steps, each told once, and nothing is left for a person."""

from collections.abc import Iterator
from typing import Final

from chaos.checker.evidence import Evidence, Violation

FINAL: Final = "every accepted id reaches a final state"
STEPS: Final = "every change has its one history row, by an arrow of docs/states.md"
ALONE: Final = "the system heals without a person"

_FINAL_RESERVATIONS: Final = frozenset({"CONFIRMED", "REJECTED", "EXPIRED", "CANCELLED"})
_FINAL_PAYMENTS: Final = frozenset({"APPROVED", "REJECTED", "REFUNDED"})

# What may follow what; the kinds that change no state (money, openings) may stand anywhere after the first.
_NO_CHANGE: Final = frozenset({"MONEY_CHANGED", "PAYMENT_OPENED"})
_MAY_FOLLOW: Final = {
    "": {"RESERVED", "REJECTED", "SOLD"},
    "RESERVED": {"PARTIALLY_PAID", "SOLD", "EXPIRED", "CANCELLED"},
    "PARTIALLY_PAID": {"PARTIALLY_PAID", "SOLD", "EXPIRED", "CANCELLED"},
    "SOLD": {"CANCELLED"},
    # A charge that landed late, where nobody took the tickets meanwhile.
    "EXPIRED": {"SOLD"},
    "CANCELLED": set(),
    "REJECTED": set(),
}


def check(evidence: Evidence) -> Iterator[Violation]:
    """Every rule about endings."""
    for row in evidence.books.reservations:
        if row.state not in _FINAL_RESERVATIONS:
            yield Violation(FINAL, f"reservation {row.reservation_id} is {row.state}")
        yield from _steps(evidence, row.reservation_id, row.version)
    for payment in evidence.books.payments:
        if payment.state not in _FINAL_PAYMENTS:
            yield Violation(FINAL, f"payment {payment.payment_id} is {payment.state}")
        yield from _versions(evidence, payment.payment_id, payment.version)
    yield from (Violation(ALONE, f"set aside: {line}") for line in evidence.books.parked)
    yield from (Violation(FINAL, f"never said: {line}") for line in evidence.books.unsaid)


def _versions(evidence: Evidence, subject_id: str, version: int) -> Iterator[Violation]:
    told = [step.version for step in evidence.steps_of.get(subject_id, ())]
    if told != list(range(1, version + 1)):
        yield Violation(STEPS, f"{subject_id} is in version {version}, history has {told}")


def _steps(evidence: Evidence, reservation_id: str, version: int) -> Iterator[Violation]:
    yield from _versions(evidence, reservation_id, version)
    last = ""
    for step in evidence.steps_of.get(reservation_id, ()):
        if last and step.kind in _NO_CHANGE:
            continue
        if step.kind not in _MAY_FOLLOW.get(last, ()):
            yield Violation(STEPS, f"{reservation_id}: {step.kind} follows {last or 'nothing'}")
        if (last, step.kind) == ("SOLD", "CANCELLED") and reservation_id not in evidence.taken_back:
            yield Violation(STEPS, f"{reservation_id}: a sale was taken back, and nobody asked for it")
        last = step.kind
