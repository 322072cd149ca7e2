"""The life of a payment, its postings and its backoffs, without any database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from payments import backoff, domain
from payments.domain import Charged, Payment, PaymentRequest, PaymentState, RefundRequest, Refused
from payments.ledger import postings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = PaymentRequest(
    payment_id=uuid4(),
    reservation_id=uuid4(),
    buyer_id="anna",
    request_id=uuid4(),
    amount_minor=0,
    payment_method="pm_card_ok",
    reply_to="",
    command_id="",
)
PENDING = domain.begin(REQUEST, NOW)
OPENED = domain.open_for_charge(PENDING, 5_000, "EUR")
EVERY_STATE = [replace(OPENED, state=state) for state in PaymentState]
WHOLE = RefundRequest(OPENED.payment_id, OPENED.reservation_id, 5_000)


def test_a_charge_takes_the_amount_that_the_provider_took() -> None:
    approved = domain.settle_charge(PENDING, OPENED, Charged(4_000, "USD"), NOW)
    assert approved is not None
    assert (approved.state, approved.amount_minor, approved.currency) == (PaymentState.APPROVED, 4_000, "USD")
    assert approved.version == PENDING.version + 1


def test_a_refusal_keeps_the_amount_that_was_opened() -> None:
    rejected = domain.settle_charge(PENDING, OPENED, Refused("CARD_DECLINED"), NOW)
    assert rejected is not None
    assert (rejected.state, rejected.decline_reason) == (PaymentState.REJECTED, "CARD_DECLINED")
    assert (rejected.amount_minor, rejected.currency) == (5_000, "EUR")


@pytest.mark.parametrize("payment", EVERY_STATE, ids=lambda payment: payment.state)
@pytest.mark.parametrize("result", [Charged(1, "USD"), Refused("CARD_DECLINED")], ids=["charged", "refused"])
def test_only_a_pending_payment_is_settled(payment: Payment, result: Charged | Refused) -> None:
    settled = domain.settle_charge(payment, OPENED, result, NOW)
    assert (settled is not None) == (payment.state is PaymentState.PENDING)


@pytest.mark.parametrize("payment", EVERY_STATE, ids=lambda payment: payment.state)
def test_only_a_refund_that_is_due_is_completed(payment: Payment) -> None:
    assert (domain.settle_refund(payment, NOW) is not None) == (payment.state is PaymentState.REFUND_DUE)


def test_only_an_approved_payment_begins_to_owe_its_refund() -> None:
    outcomes: dict[PaymentState, object] = {}
    for payment in EVERY_STATE:
        try:
            owed = domain.owe_refund(payment, WHOLE, NOW)
            outcomes[payment.state] = owed and owed.state
        except (domain.RefundTooEarly, domain.RefundImpossible) as error:
            outcomes[payment.state] = type(error)
    assert outcomes == {
        PaymentState.PENDING: domain.RefundTooEarly,
        PaymentState.APPROVED: PaymentState.REFUND_DUE,
        PaymentState.REJECTED: domain.RefundImpossible,
        PaymentState.REFUND_DUE: None,
        PaymentState.REFUNDED: None,
    }


def test_an_unknown_payment_may_become_known() -> None:
    with pytest.raises(domain.RefundTooEarly):
        domain.owe_refund(None, WHOLE, NOW)


@pytest.mark.parametrize("wrong", [replace(WHOLE, amount_minor=1), replace(WHOLE, reservation_id=UUID(int=1))])
def test_a_refund_must_name_the_whole_payment_and_its_reservation(wrong: RefundRequest) -> None:
    with pytest.raises(domain.RefundImpossible):
        domain.owe_refund(replace(OPENED, state=PaymentState.APPROVED), wrong, NOW)


def test_a_payment_leaves_its_card_token_behind_when_it_moves() -> None:
    assert PENDING.payment_method == "pm_card_ok"
    rejected = domain.settle_charge(PENDING, PENDING, Refused("HOLD_ENDED"), NOW)
    assert rejected is not None
    assert rejected.payment_method is None
    assert domain.is_same_request(rejected, REQUEST)
    assert not domain.is_same_request(rejected, replace(REQUEST, payment_method="pm_2"))


def test_the_postings_of_each_state_sum_to_zero_and_a_refunded_payment_leaves_nothing_behind() -> None:
    balances: dict[str, int] = {}
    for payment in EVERY_STATE:
        entries = postings(payment)
        assert sum(entry.amount_minor for entry in entries) == 0
        for entry in entries:
            balances[entry.account] = balances.get(entry.account, 0) + entry.amount_minor
    assert balances == {"provider_clearing": 0, "deferred_revenue": 0, "refunds_payable": 0}


def test_a_charge_is_given_up_once_its_time_is_over_and_not_before() -> None:
    limit = timedelta(seconds=domain.CHARGE_GIVE_UP_AFTER_S)
    assert not domain.is_given_up(PENDING, NOW + limit - timedelta(microseconds=1))
    assert domain.is_given_up(PENDING, NOW + limit)


def test_what_was_not_answered_is_tried_again_quickly_and_never_much_later() -> None:
    assert [backoff.unanswered_s(attempts, 1.0) for attempts in (1, 2, 3, 8, 9, 1_000_000)] == pytest.approx(
        [0.1, 0.2, 0.4, 12.8, 15, 15]
    )


def test_what_was_refused_is_tried_again_quickly_then_from_15_s_to_1_h() -> None:
    delays = [backoff.refused_s(attempts, 1.0) for attempts in (1, 2, 3, 4, 5, 11, 12, 1_000_000)]
    assert delays == pytest.approx([0.2, 1, 5, 15, 30, 1_920, 3_600, 3_600])


def test_jitter_spreads_a_backoff_over_its_upper_half() -> None:
    assert backoff.unanswered_s(1, 0.0) == pytest.approx(0.05)
    assert backoff.refused_s(4, 0.5) == pytest.approx(11.25)
