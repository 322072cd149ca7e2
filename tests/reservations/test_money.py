"""What payments do to a reservation: every refusal, every outcome in every state, and how long the tickets are kept."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from contract import reasons
from reservations.domain.holds import cancel
from reservations.domain.model import (
    PAYMENTS_MAX,
    RELEASE_EXTENSION_MAX,
    Books,
    CreditState,
    Reservation,
    StepKind,
    TicketState,
)
from reservations.domain.money import RefundWithoutDebt, approve, complete_refund, open_payment, reject
from tests.reservations.ledger import NOON, TOTAL_MINOR, a_hold, event, ledger_of, opened, paid, run_out, states

SECOND = timedelta(seconds=1)
GRACE = event().payment_grace


def refusal(books: Books, hold: Reservation, amount_minor: int = 0, buyer_id: str = "ann") -> str:
    """Why another payment is refused; refusing changes nothing."""
    before = (hold.version, hold.state, ledger_of(hold), hold.release_time, dict(hold.credits), list(books.steps))
    reason = open_payment(books, hold, uuid4(), buyer_id, amount_minor)
    assert reason, "it was opened"
    assert (hold.version, hold.state, ledger_of(hold), hold.release_time, hold.credits, books.steps) == before
    return reason


def test_a_payment_of_somebody_elses_reservation_is_refused_whatever_its_state() -> None:
    books, hold = a_hold()
    assert refusal(books, hold, buyer_id="bob") == reasons.NOT_YOUR_RESERVATION
    paid(books, hold)
    assert refusal(books, hold, buyer_id="bob") == reasons.NOT_YOUR_RESERVATION


def test_a_payment_of_what_is_sold_is_refused() -> None:
    books, hold = a_hold()
    paid(books, hold)
    assert refusal(books, hold, amount_minor=1) == reasons.NOTHING_DUE


def test_a_payment_without_a_live_hold_is_refused() -> None:
    books, hold = a_hold()
    run_out(books, hold)
    assert refusal(books, hold) == reasons.HOLD_ENDED
    books, hold = a_hold()
    cancel(books, hold)
    assert refusal(books, hold) == reasons.HOLD_ENDED


@pytest.mark.parametrize("amount_minor", [TOTAL_MINOR + 1, 10**12])
def test_a_payment_above_the_total_is_refused(amount_minor: int) -> None:
    books, hold = a_hold()
    assert refusal(books, hold, amount_minor) == reasons.AMOUNT_ABOVE_DUE


def test_what_is_paid_and_what_is_being_charged_is_not_due_any_more() -> None:
    books, hold = a_hold()
    paid(books, hold, 3_000)
    opened(books, hold, 4_000)
    assert hold.due_minor == TOTAL_MINOR - 7_000
    assert refusal(books, hold, TOTAL_MINOR - 7_000 + 1) == reasons.AMOUNT_ABOVE_DUE
    last = opened(books, hold)
    assert hold.credits[last].amount_minor == TOTAL_MINOR - 7_000
    assert refusal(books, hold) == refusal(books, hold, 1) == reasons.NOTHING_DUE


def test_the_twenty_first_payment_is_refused_even_if_all_others_were_declined() -> None:
    books, hold = a_hold()
    for _ in range(PAYMENTS_MAX):
        reject(books, hold, opened(books, hold))
    assert refusal(books, hold) == reasons.TOO_MANY_PAYMENTS
    assert refusal(books, hold, TOTAL_MINOR + 1) == reasons.AMOUNT_ABOVE_DUE


def test_opening_a_payment_keeps_room_for_it_and_says_nothing() -> None:
    books, hold = a_hold()
    payment_id = opened(books, hold, 1_000)
    assert hold.credits[payment_id].state is CreditState.OPEN
    assert ledger_of(hold) == (0, 1_000, 0, 0)
    assert [step.kind for step in books.steps] == [StepKind.PAYMENT_OPENED]


def in_state(books: Books, hold: Reservation, state: CreditState) -> UUID:
    """A payment of all that is due whose credit is in this state; the hold has ended where that takes it."""
    payment_id = opened(books, hold)
    if state is CreditState.CLOSED:
        reject(books, hold, payment_id)
    elif state is CreditState.APPLIED:
        approve(books, hold, payment_id, TOTAL_MINOR)
    elif state is not CreditState.OPEN:
        cancel(books, hold)
        approve(books, hold, payment_id, TOTAL_MINOR)
        if state is CreditState.REFUNDED:
            complete_refund(books, hold, payment_id)
    assert hold.credits[payment_id].state is state
    books.steps.clear()
    return payment_id


@pytest.mark.parametrize("state", CreditState)
def test_opening_again_changes_nothing_and_only_what_was_rejected_stays_refused(state: CreditState) -> None:
    books, hold = a_hold()
    payment_id = in_state(books, hold, state)
    before = (hold.version, ledger_of(hold), hold.release_time)
    answer = open_payment(books, hold, payment_id, hold.buyer_id, 0)
    assert answer == (reasons.HOLD_ENDED if state is CreditState.CLOSED else "")
    assert (hold.version, ledger_of(hold), hold.release_time) == before
    assert books.steps == []


# What each outcome makes of a credit, while the hold lives or after it ended; what is left out changes nothing.
OUTCOMES = {
    ("approve", CreditState.OPEN): CreditState.APPLIED,
    ("approve", CreditState.CLOSED): CreditState.REFUND_DUE,
    ("reject", CreditState.OPEN): CreditState.CLOSED,
    ("complete_refund", CreditState.REFUND_DUE): CreditState.REFUNDED,
}


@pytest.mark.parametrize("state", CreditState)
@pytest.mark.parametrize("outcome", ["approve", "reject", "complete_refund"])
def test_each_outcome_takes_its_arrow_once_and_no_other(outcome: str, state: CreditState) -> None:
    books, hold = a_hold()
    payment_id = in_state(books, hold, state)
    version, tickets, ledger = hold.version, states(books, list(books.tickets.values())), ledger_of(hold)

    def tell() -> None:
        if outcome == "approve":
            approve(books, hold, payment_id, TOTAL_MINOR)
        elif outcome == "reject":
            reject(books, hold, payment_id)
        else:
            complete_refund(books, hold, payment_id)

    if outcome == "complete_refund" and state not in (CreditState.REFUND_DUE, CreditState.REFUNDED):
        with pytest.raises(RefundWithoutDebt):
            tell()
    else:
        tell()
    after = OUTCOMES.get((outcome, state))
    if after is None:
        assert (hold.version, states(books, list(books.tickets.values())), ledger_of(hold)) == (
            version,
            tickets,
            ledger,
        )
    assert hold.credits[payment_id].state is (after or state)
    assert len(books.steps) == (after is not None)


def test_a_part_payment_keeps_the_hold_and_the_last_part_sells_the_tickets() -> None:
    books, hold = a_hold()
    paid(books, hold, 4_000)
    assert (hold.state, ledger_of(hold)) == ("PARTIALLY_PAID", (4_000, 0, 0, 0))
    assert states(books, list(books.tickets.values())) == [TicketState.HELD] * 2
    paid(books, hold)
    assert (hold.state, ledger_of(hold)) == ("CONFIRMED", (TOTAL_MINOR, 0, 0, 0))
    assert states(books, list(books.tickets.values())) == [TicketState.SOLD] * 2
    kinds = [step.kind for step in books.steps]
    assert kinds == [StepKind.PAYMENT_OPENED, StepKind.PARTIALLY_PAID, StepKind.PAYMENT_OPENED, StepKind.SOLD]


def test_what_was_charged_without_an_opening_goes_back() -> None:
    books, hold = a_hold()
    approve(books, hold, uuid4(), 700)
    assert (hold.state, ledger_of(hold)) == ("HELD", (0, 0, 700, 0))
    assert [credit.amount_minor for credit in books.steps[0].refunds] == [700]


def test_a_decline_leaves_the_hold_alive_and_its_room_free() -> None:
    books, hold = a_hold()
    reject(books, hold, opened(books, hold))
    assert (hold.state, hold.due_minor) == ("HELD", TOTAL_MINOR)
    paid(books, hold)
    assert hold.state == "CONFIRMED"


def test_a_charge_under_way_keeps_the_tickets_for_its_grace_and_a_decline_gives_that_back() -> None:
    books, hold = a_hold()
    books.now = hold.expire_time - SECOND
    payment_id = opened(books, hold)
    assert hold.release_time == books.now + GRACE
    reject(books, hold, payment_id)
    assert hold.release_time == hold.expire_time == NOON + event().hold_duration


def test_a_charge_early_in_the_hold_does_not_shorten_it() -> None:
    books, hold = a_hold()
    opened(books, hold)
    assert hold.release_time == hold.expire_time


def test_charges_never_keep_the_tickets_beyond_the_hard_limit() -> None:
    books, hold = a_hold(payment_grace=RELEASE_EXTENSION_MAX)
    limit = hold.expire_time + RELEASE_EXTENSION_MAX
    for _ in range(3):
        books.now = hold.release_time - SECOND
        opened(books, hold, 1)
        assert hold.release_time <= limit
    assert hold.release_time == limit


def test_a_part_payment_keeps_the_tickets_for_the_instalment_hold_even_beyond_the_hard_limit() -> None:
    books, hold = a_hold(instalment_hold=timedelta(days=30))
    paid(books, hold, 1)
    assert hold.release_time == NOON + timedelta(days=30)
    books.now += timedelta(days=29)
    paid(books, hold, 1)
    assert hold.release_time == NOON + timedelta(days=59)
    reject(books, hold, opened(books, hold))
    assert hold.release_time == NOON + timedelta(days=59)


def test_without_grace_a_charge_keeps_nothing() -> None:
    books, hold = a_hold(payment_grace=timedelta())
    books.now = hold.expire_time - SECOND
    opened(books, hold)
    assert hold.release_time == hold.expire_time


def test_a_refund_that_was_never_due_is_an_alarm_and_changes_nothing() -> None:
    books, hold = a_hold()
    with pytest.raises(RefundWithoutDebt):
        complete_refund(books, hold, uuid4())
    assert (ledger_of(hold), books.steps) == ((0, 0, 0, 0), [])
