"""What must be true once the drill is over, from what buyers were told, the books, and the processor's statement."""

from collections.abc import Iterable
from typing import Final

from chaos.books import Books
from chaos.drill.outcome import Outcome
from chaos.record import Record, Request, ToldReservation

_SHOWN_MAX: Final = 5


def judge(record: Record, books: Books, target_s: float, outcome: Outcome) -> None:
    """Notes in the outcome what became of every sale and every charge, and what should not have."""
    _judge_sales(record, books, target_s, outcome)
    _judge_charges(books, outcome)


def _judge_sales(record: Record, books: Books, target_s: float, outcome: Outcome) -> None:
    states = {row.reservation_id: row.state for row in books.reservations}
    asked_back = {request.reservation_id for request in record.requests if request.call in {"Refund", "Cancel"}}
    gone: list[str] = []
    for told, end_s in _sales(record.requests):
        state = states.get(told.reservation_id, "unknown")
        is_before = end_s < target_s
        outcome.told_before += is_before
        outcome.told_after += not is_before
        if state == "CONFIRMED":
            outcome.kept += 1
        elif is_before and told.reservation_id in asked_back:
            # Its buyer gave it back after the point in time, has the money, and shall not have both.
            outcome.taken_back += 1
        elif is_before:
            gone.append(f"{told.reservation_id} is {state}")
        else:
            outcome.lost += 1
            outcome.lost_minor += told.total_minor
    shown = ", ".join(gone[:_SHOWN_MAX])
    outcome.expect(not gone, f"{len(gone)} sales from before the point in time are gone: {shown}")
    outcome.expect(outcome.told_before > 0 and outcome.lost > 0, "nothing was sold before, or lost after: no drill")


def _sales(requests: Iterable[Request]) -> Iterable[tuple[ToldReservation, float]]:
    """Each reservation that its buyer was told to be sold, and when he first was."""
    first: dict[str, tuple[ToldReservation, float]] = {}
    for request in requests:
        for answer in request.answers:
            told = answer.reservation
            if told and told.state == "CONFIRMED" and answer.end_s < first.get(told.reservation_id, (told, 1e18))[1]:
                first[told.reservation_id] = told, answer.end_s
    return first.values()


def _judge_charges(books: Books, outcome: Outcome) -> None:
    """A charge that is not back stands for a ticket, and the other way round: to the cent."""
    sold = {row.reservation_id for row in books.reservations if row.state == "CONFIRMED"}
    applied = {row.payment_id for row in books.credits if row.state == "APPLIED" and row.reservation_id in sold}
    charged = {row.payment_id: row for row in books.charges if row.state == "APPROVED"}
    kept = {payment_id for payment_id, charge in charged.items() if charge.refunded_minor == 0}
    without_ticket, without_money = kept - applied, applied - kept
    outcome.expect(not without_ticket, f"{len(without_ticket)} charges are neither in a ticket nor back")
    outcome.expect(not without_money, f"{len(without_money)} payments are in a ticket and not with us")
    known = {row.payment_id for row in books.payments if row.state == "REFUNDED"}
    for payment_id in charged.keys() - kept - known:
        outcome.given_back += 1
        outcome.given_back_minor += charged[payment_id].refunded_minor
    total_minor = sum(row.total_minor for row in books.reservations if row.state == "CONFIRMED")
    kept_minor = sum(charged[payment_id].amount_minor for payment_id in kept)
    outcome.expect(total_minor == kept_minor, f"tickets for {total_minor} are sold, {kept_minor} is charged")
