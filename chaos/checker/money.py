"""Money: every charge ends as exactly one of ticket or refund, and every book agrees to the cent."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from chaos.books import Payment
from chaos.checker.evidence import Evidence, Violation

TICKET_OR_REFUND: Final = "every charged payment is exactly one of ticket or refund"
NOT_CHARGED: Final = "whoever was refused was not charged"
PAID_IN_FULL: Final = "CONFIRMED means paid in full, and nothing else keeps money"
TO_THE_CENT: Final = "ledger, reservations and the processor's statement agree to the cent"
WALLET: Final = "a buyer has paid for the tickets that the buyer has"
ONE_EFFECT: Final = "one request has one effect"


def check(evidence: Evidence) -> Iterator[Violation]:
    """Every rule about money."""
    for payment in evidence.payments.values():
        yield from _ticket_or_refund(evidence, payment)
    for payment_id in sorted(evidence.charges.keys() - evidence.payments.keys()):
        # A tombstone says that nothing can be charged.
        if evidence.charges[payment_id].state != "CANCELLED":
            yield Violation(TICKET_OR_REFUND, f"{payment_id} was charged and is nobody's payment")
    for payment_id in sorted(evidence.credits.keys() - evidence.payments.keys()):
        yield Violation(TO_THE_CENT, f"{payment_id} is a credit and nobody's payment")
    yield from _paid_in_full(evidence)
    yield from _ledger(evidence)
    yield from _wallets(evidence)
    yield from doubled(evidence)


def doubled(evidence: Evidence) -> Iterator[Violation]:
    """Requests that had two effects."""
    reserved = Counter((row.buyer_id, row.request_id) for row in evidence.books.reservations)
    paid = Counter((row.buyer_id, row.request_id) for row in evidence.books.payments)
    charged = Counter(charge.payment_id for charge in evidence.books.charges)
    for kind, effects in (("reservations", reserved), ("payments", paid), ("charges", charged)):
        for key, count in effects.items():
            if count > 1:
                yield Violation(ONE_EFFECT, f"{count} {kind} of {key}")


def _ticket_or_refund(evidence: Evidence, payment: Payment) -> Iterator[Violation]:
    credit = evidence.credits.get(payment.payment_id)
    charge = evidence.charges.get(payment.payment_id)
    reservation = evidence.reservations.get(payment.reservation_id)
    charged = charge is not None and charge.state == "APPROVED"
    if not charged:
        if payment.state != "REJECTED" or (credit is not None and credit.state != "CLOSED"):
            state = credit.state if credit else "none"
            yield Violation(NOT_CHARGED, f"{payment.payment_id} is {payment.state}, its credit {state}, not charged")
        return
    keeps = charge is not None and charge.refunded_minor == 0
    ticket = (
        (payment.state, credit.state if credit else "", reservation.state if reservation else "")
        == ("APPROVED", "APPLIED", "CONFIRMED")
        and charge is not None
        and charge.amount_minor == payment.amount_minor
        and credit is not None
        and credit.amount_minor == payment.amount_minor
    )
    refund = (
        (payment.state, credit.state if credit else "") == ("REFUNDED", "REFUNDED")
        and charge is not None
        and charge.refunded_minor == charge.amount_minor == payment.amount_minor
    )
    if not (ticket and keeps) and not (refund and not keeps):
        yield Violation(TICKET_OR_REFUND, f"{payment}, {charge}, {credit}, reservation {reservation}")


def _paid_in_full(evidence: Evidence) -> Iterator[Violation]:
    applied: Counter[str] = Counter()
    refunded: Counter[str] = Counter()
    for credit in evidence.books.credits:
        if credit.state == "APPLIED":
            applied[credit.reservation_id] += credit.amount_minor
        elif credit.state == "REFUNDED":
            refunded[credit.reservation_id] += credit.amount_minor
    for row in evidence.books.reservations:
        kept = row.total_minor if row.state == "CONFIRMED" else 0
        money = (applied[row.reservation_id], row.paid_minor, refunded[row.reservation_id], row.refund_due_minor)
        if money != (kept, kept, row.refunded_minor, 0):
            yield Violation(PAID_IN_FULL, f"{row} with credits of {money[0]} applied and {money[2]} refunded")


def _ledger(evidence: Evidence) -> Iterator[Violation]:
    sums: Counter[str] = Counter()
    clearing: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in evidence.books.entries:
        sums[entry.payment_id] += entry.amount_minor
        if entry.account == "provider_clearing":
            clearing[entry.payment_id][entry.posting] += entry.amount_minor
    for payment_id, total_minor in sums.items():
        if total_minor:
            yield Violation(TO_THE_CENT, f"the ledger of {payment_id} sums to {total_minor}")
    approved = {key: charge for key, charge in evidence.charges.items() if charge.state == "APPROVED"}
    for payment_id in sorted(clearing.keys() | approved.keys()):
        charge = approved.get(payment_id)
        theirs = (charge.amount_minor, charge.refunded_minor) if charge else (0, 0)
        ours = (clearing[payment_id]["CHARGE"], -clearing[payment_id]["REFUND"])
        if ours != theirs:
            yield Violation(TO_THE_CENT, f"{payment_id}: charged and refunded {ours} by the ledger, {theirs} by them")


def _wallets(evidence: Evidence) -> Iterator[Violation]:
    spent: Counter[str] = Counter()
    for charge in evidence.books.charges:
        payment = evidence.payments.get(charge.payment_id)
        if payment is not None and charge.state == "APPROVED":
            spent[payment.buyer_id] += charge.amount_minor - charge.refunded_minor
    owned: Counter[str] = Counter()
    for row in evidence.books.reservations:
        if row.state == "CONFIRMED":
            owned[row.buyer_id] += row.total_minor
    for buyer_id in sorted(spent.keys() | owned.keys()):
        if spent[buyer_id] != owned[buyer_id]:
            yield Violation(WALLET, f"{buyer_id} paid {spent[buyer_id]} and has tickets for {owned[buyer_id]}")
