"""The verdict on a drill finds what went wrong, and only that."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chaos.books import Books, Charge, Credit, Payment, Reservation
from chaos.drill.outcome import Outcome
from chaos.drill.verdict import judge
from chaos.record import OK, Answer, Call, Record, Request, ToldReservation

TARGET_S = 100.0
PRICE_MINOR = 4_500


def told_sold(name: str, at_s: float) -> Request:
    told = ToldReservation(name, "e", name, "CONFIRMED", (), PRICE_MINOR, PRICE_MINOR, 0, 0, "", 3)
    return request("Pay", name, Answer(at_s - 1, at_s, OK, reservation=told))


def request(call: Call, name: str, *answers: Answer) -> Request:
    return Request(call, f"{call} {name}", name, "e", "calm", reservation_id=name, answers=list(answers))


def sold(name: str, state: str = "CONFIRMED") -> Reservation:
    return Reservation(name, "e", name, name, state, "", PRICE_MINOR, PRICE_MINOR, 0, 0, 0.0, 3)


def paid(name: str, state: str = "APPROVED") -> Payment:
    return Payment(name, name, name, name, PRICE_MINOR, state, "", 0.0, 2)


def charged(name: str, refunded_minor: int = 0) -> Charge:
    return Charge(name, PRICE_MINOR, refunded_minor, "APPROVED")


def drilled() -> tuple[Record, Books]:
    """Ann bought before and kept it; bob bought before, gave it back after; cyd bought after, and has her money."""
    record = Record([told_sold("ann", 90), told_sold("bob", 95), request("Refund", "bob"), told_sold("cyd", 110)])
    books = Books(
        reservations=[sold("ann"), sold("bob", "CANCELLED")],
        credits=[Credit("ann", "ann", PRICE_MINOR, "APPLIED"), Credit("bob", "bob", PRICE_MINOR, "REFUNDED")],
        payments=[paid("ann"), paid("bob", "REFUNDED")],
        charges=[charged("ann"), charged("bob", PRICE_MINOR), charged("cyd", PRICE_MINOR)],
    )
    return record, books


def test_a_drill_in_which_all_is_right_is_counted() -> None:
    outcome = Outcome()
    judge(*drilled(), TARGET_S, outcome)
    assert outcome.problems == []
    assert (outcome.told_before, outcome.told_after) == (2, 1)
    assert (outcome.kept, outcome.taken_back, outcome.lost, outcome.lost_minor) == (1, 1, 1, PRICE_MINOR)
    assert (outcome.given_back, outcome.given_back_minor) == (1, PRICE_MINOR)


Wrong = Callable[[Record, Books], None]


def _lose_a_sale(_: Record, books: Books) -> None:
    books.reservations = [sold("ann", "EXPIRED"), sold("bob", "CANCELLED")]


def _keep_money(_: Record, books: Books) -> None:
    books.charges = [charged("ann"), charged("bob", PRICE_MINOR), charged("cyd")]


def _give_a_ticket_away(_: Record, books: Books) -> None:
    books.charges = [charged("ann", PRICE_MINOR), *books.charges[1:]]


def _charge_another_amount(_: Record, books: Books) -> None:
    books.charges = [replace(charged("ann"), amount_minor=1), *books.charges[1:]]


def _lose_nothing(record: Record, _: Books) -> None:
    record.requests.pop()


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (_lose_a_sale, "from before the point in time are gone"),
        (_keep_money, "neither in a ticket nor back"),
        (_give_a_ticket_away, "in a ticket and not with us"),
        (_charge_another_amount, "is charged"),
        (_lose_nothing, "no drill"),
    ],
)
def test_what_went_wrong_is_told(wrong: Wrong, problem: str) -> None:
    record, books = drilled()
    wrong(record, books)
    outcome = Outcome()
    judge(record, books, TARGET_S, outcome)
    assert any(problem in line for line in outcome.problems), outcome.problems
