"""The checker finds each kind of broken promise, and nothing where every promise was kept."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from chaos.books import Charge, Credit, Held, Payment, Reservation
from chaos.checker import endings, money, tickets, told
from chaos.checker.evidence import Evidence
from chaos.checker.verdict import RULES, judge
from chaos.record import Answer, Sight
from tests.chaos import honest
from tests.chaos.honest import CANCELLED, EVENT, EXPIRED, PRICE, REFUSED, SOLD, TAKEN_BACK, answered, evidence

Lie = Callable[[Evidence], None]
LIES: Final[list[tuple[str, Lie]]] = []


def breaks(rule: str) -> Callable[[Lie], Lie]:
    """Marks what breaks a promise, and which."""

    def mark(lie: Lie) -> Lie:
        LIES.append((rule, lie))
        return lie

    return mark


def changed(rows: Any, key: str, name: str, **values: object) -> list[Any]:
    """The rows, with that one changed."""
    return [replace(row, **values) if getattr(row, key) == name else row for row in rows]


def request(run: Evidence, request_id: str) -> Any:
    return next(one for one in run.record.requests if one.request_id == request_id)


@breaks(told.ANSWERED)
def somebody_insists_and_is_never_told(run: Evidence) -> None:
    request(run, f"wish of {EXPIRED}").answers[:] = [Answer(1, 6, "DEADLINE_EXCEEDED")]


@breaks(told.ONE_ANSWER)
def held_and_then_refused(run: Evidence) -> None:
    request(run, f"wish of {SOLD}").answers.append(answered(reservation=honest.told(SOLD, "REJECTED")))


@breaks(told.ONE_ANSWER)
def charged_twice_under_one_request(run: Evidence) -> None:
    shown = replace(honest.paid(SOLD, "APPROVED"), payment_id="another")
    request(run, f"pay of {SOLD}").answers.append(answered(payment=shown))


@breaks(told.ONE_ANSWER)
def refused_for_two_reasons(run: Evidence) -> None:
    shown = replace(honest.told(REFUSED, "REJECTED"), reject_reason="SOLD_OUT")
    request(run, f"wish of {REFUSED}").answers.append(answered(reservation=shown))


@breaks(told.KEPT)
def accepted_and_forgotten(run: Evidence) -> None:
    run.books.reservations = [row for row in run.books.reservations if row.reservation_id != EXPIRED]


@breaks(told.KEPT)
def a_payment_accepted_and_forgotten(run: Evidence) -> None:
    run.books.payments = [row for row in run.books.payments if row.reservation_id != SOLD]


@breaks(told.BOOKED)
def told_held_and_booked_as_refused(run: Evidence) -> None:
    rows = changed(run.books.reservations, "reservation_id", EXPIRED, state="REJECTED", reject_reason="SOLD_OUT")
    run.books.reservations = rows


@breaks(told.BOOKED)
def told_a_version_that_the_books_never_reached(run: Evidence) -> None:
    request(run, f"wish of {EXPIRED}").answers[:] = [answered(reservation=honest.told(EXPIRED, "HELD", 9))]


@breaks(told.BOOKED)
def told_refused_and_charged(run: Evidence) -> None:
    request(run, f"pay of {SOLD}").answers[:] = [answered(payment=honest.paid(SOLD, "REJECTED"))]


@breaks(told.SALE_STANDS)
def a_sale_is_gone_and_nobody_asked(run: Evidence) -> None:
    run.record.requests = [one for one in run.record.requests if one.call != "Refund"]


@breaks(told.NEVER_BACK)
def a_read_shows_what_is_over(run: Evidence) -> None:
    run.record.sights.append(Sight(5.0, 5.1, honest.told(SOLD, "HELD", 1)))


@breaks(told.ONE_CONTENT)
def one_version_shown_in_two_ways(run: Evidence) -> None:
    shown = replace(honest.told(SOLD, "CONFIRMED", 3), paid_minor=PRICE - 1)
    run.record.sights.append(Sight(5.0, 5.1, shown))


@breaks(told.AS_ASKED)
def another_seat_than_asked_for(run: Evidence) -> None:
    request(run, f"wish of {EXPIRED}").ticket_ids = ("another seat",)


@breaks(told.WATCHED)
def a_seat_map_that_stands_still(run: Evidence) -> None:
    run.record.seat_maps[EVENT] = {row.ticket_id: (row.state, row.version) for row in run.books.tickets}
    run.record.seat_maps[EVENT][f"seat of {SOLD}"] = ("HELD", 2)


@breaks(told.WATCHED)
def a_watch_that_ends_too_early(run: Evidence) -> None:
    run.record.endings.append((EXPIRED, "HELD"))


@breaks(told.DOCUMENTED)
def an_error_that_nobody_documented(run: Evidence) -> None:
    request(run, f"wish of {REFUSED}").answers.insert(0, Answer(1, 2, "INTERNAL", "INTERNAL"))


@breaks(tickets.NEVER_TWICE)
def one_seat_sold_to_two(run: Evidence) -> None:
    run.books.held = [*run.books.held, Held("second", f"seat of {SOLD}", live=True)]
    first = next(row for row in run.books.reservations if row.reservation_id == SOLD)
    run.books.reservations = [*run.books.reservations, replace(first, reservation_id="second", request_id="r2")]


@breaks(tickets.AS_HELD)
def a_seat_that_nobody_holds_is_not_on_sale(run: Evidence) -> None:
    run.books.tickets = changed(run.books.tickets, "ticket_id", f"seat of {EXPIRED}", state="HELD")


@breaks(tickets.ALL_OR_NOTHING)
def a_hold_is_over_and_keeps_its_seat(run: Evidence) -> None:
    run.books.held = changed(run.books.held, "reservation_id", EXPIRED, live=True)


@breaks(tickets.COUNTED)
def a_count_that_is_off_by_one(run: Evidence) -> None:
    run.books.counts = {EVENT: (4, 0, 1)}


@breaks(tickets.COUNTED)
def an_allowance_that_was_not_given_back(run: Evidence) -> None:
    run.books.allowances = {**run.books.allowances, (EVENT, f"{EXPIRED}'s buyer"): 1}


@breaks(money.TICKET_OR_REFUND)
def ticket_and_refund(run: Evidence) -> None:
    charges = changed(run.books.charges, "payment_id", f"payment of {SOLD}", refunded_minor=PRICE)
    run.books.charges = charges


@breaks(money.TICKET_OR_REFUND)
def neither_ticket_nor_refund(run: Evidence) -> None:
    run.books.charges = changed(run.books.charges, "payment_id", f"payment of {CANCELLED}", refunded_minor=0)


@breaks(money.TICKET_OR_REFUND)
def a_charge_that_is_nobodys(run: Evidence) -> None:
    run.books.charges = [*run.books.charges, Charge("stray", PRICE, 0, "APPROVED")]


@breaks(money.NOT_CHARGED)
def a_ticket_for_nothing(run: Evidence) -> None:
    run.books.charges = changed(run.books.charges, "payment_id", f"payment of {SOLD}", state="DECLINED")


@breaks(money.PAID_IN_FULL)
def confirmed_for_less(run: Evidence) -> None:
    run.books.reservations = changed(run.books.reservations, "reservation_id", SOLD, paid_minor=PRICE - 1)


@breaks(money.TO_THE_CENT)
def a_cent_too_few_in_the_ledger(run: Evidence) -> None:
    first, *others = run.books.entries
    run.books.entries = [replace(first, amount_minor=first.amount_minor - 1), *others]


@breaks(money.TO_THE_CENT)
def a_credit_without_a_payment(run: Evidence) -> None:
    run.books.credits = [*run.books.credits, Credit("stray", SOLD, 1, "CLOSED")]


@breaks(money.WALLET)
def paid_by_one_and_owned_by_another(run: Evidence) -> None:
    run.books.payments = changed(run.books.payments, "reservation_id", SOLD, buyer_id="somebody else")


@breaks(money.ONE_EFFECT)
def one_request_with_two_reservations(run: Evidence) -> None:
    first = next(row for row in run.books.reservations if row.reservation_id == EXPIRED)
    run.books.reservations = [*run.books.reservations, replace(first, reservation_id="second")]


@breaks(endings.FINAL)
def a_hold_without_end(run: Evidence) -> None:
    run.books.reservations = changed(run.books.reservations, "reservation_id", EXPIRED, state="HELD")


@breaks(endings.FINAL)
def a_payment_without_end(run: Evidence) -> None:
    run.books.payments = changed(run.books.payments, "reservation_id", CANCELLED, state="REFUND_DUE")


@breaks(endings.FINAL)
def a_message_that_is_never_said(run: Evidence) -> None:
    run.books.unsaid = ["reservations: SOLD"]


@breaks(endings.STEPS)
def a_change_without_its_history(run: Evidence) -> None:
    run.books.steps = [step for step in run.books.steps if step.kind != "SOLD"]


@breaks(endings.STEPS)
def a_sale_that_follows_a_cancellation(run: Evidence) -> None:
    run.books.steps = [
        replace(step, kind="SOLD") if (step.subject_id, step.version) == (CANCELLED, 5) else step
        for step in run.books.steps
    ]


@breaks(endings.ALONE)
def a_message_set_aside_for_a_person(run: Evidence) -> None:
    run.books.parked = ["reservations.money: payment_approved"]


def test_an_honest_run_is_found_honest() -> None:
    verdict = judge(evidence())
    assert (list(verdict.violations), verdict.doubled, dict(verdict.lost)) == ([], 0, {})


@pytest.mark.parametrize(("rule", "lie"), LIES, ids=lambda value: getattr(value, "__name__", ""))
def test_finds(rule: str, lie: Lie) -> None:
    run = evidence()
    lie(run)
    assert rule in {violation.rule for violation in judge(run).violations}


def test_every_rule_is_broken_by_some_lie() -> None:
    assert {rule for rule, _ in LIES} == set(RULES)


def test_what_was_only_accepted_may_be_gone_with_the_brokers_disk_but_not_what_was_decided() -> None:
    run = evidence()
    run.lossy = {"cell"}
    accepted_and_forgotten(run)
    assert told.KEPT in {violation.rule for violation in judge(run).violations}

    run = evidence()
    run.lossy = {"cell"}
    pending = replace(honest.told(EXPIRED, "PENDING"), ticket_ids=(), version=0)
    request(run, f"wish of {EXPIRED}").answers[:] = [answered(reservation=pending)]
    request(run, f"wish of {EXPIRED}").insists = False
    for rows in ("reservations", "held", "tickets", "steps"):
        left = [row for row in getattr(run.books, rows) if EXPIRED not in vars_of(row)]
        setattr(run.books, rows, left)
    run.books.counts = {EVENT: (2, 0, 1)}
    verdict = judge(run)
    assert (list(verdict.violations), dict(verdict.lost)) == ([], {"cell": 1})


def test_a_sale_that_a_person_took_back_is_no_violation_but_by_itself_it_is_one() -> None:
    run = evidence()
    a_sale_is_gone_and_nobody_asked(run)
    found = [violation for violation in judge(run).violations if TAKEN_BACK in violation.detail]
    assert {violation.rule for violation in found} == {told.SALE_STANDS, endings.STEPS}


def vars_of(row: Reservation | Payment | Held) -> str:
    """All of a row as text."""
    return " ".join(str(getattr(row, field)) for field in row.__dataclass_fields__)
