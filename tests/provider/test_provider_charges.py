"""What the provider promises about charges, refunds and its statement."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from uuid import uuid4

import grpc
import pytest

from chassis.errors import from_upstream
from provider.methods import METHODS
from provider.servicer import Servicer
from tests.provider.running import Stub, eventually, order
from ticketrush.provider.v1 import provider_pb2 as pb

APPROVED, DECLINED, CANCELLED = (
    pb.Charge.STATE_APPROVED,
    pb.Charge.STATE_DECLINED,
    pb.Charge.STATE_CANCELLED,
)


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), from_upstream(caught.value).reason


async def statement(provider: Stub, page_size: int = 0) -> list[pb.Charge]:
    charges: list[pb.Charge] = []
    token = ""
    while True:
        page = await provider.ListCharges(pb.ListChargesRequest(page_size=page_size, page_token=token))
        charges += page.charges
        token = page.next_page_token
        if not token:
            return charges


def slow_by(monkeypatch: pytest.MonkeyPatch, delay_s: float) -> None:
    monkeypatch.setitem(METHODS, "pm_card_slow", replace(METHODS["pm_card_slow"], delay_s=delay_s))


async def test_a_good_card_is_charged(provider: Stub) -> None:
    request = order()
    charge = (await provider.Charge(request)).charge
    assert charge.state == APPROVED
    assert (charge.payment_id, charge.amount_minor, charge.currency) == (request.payment_id, 4_200, "EUR")
    assert (await provider.GetCharge(pb.GetChargeRequest(payment_id=request.payment_id))).charge == charge


@pytest.mark.parametrize(
    ("method", "reason"),
    [("pm_card_declined", "CARD_DECLINED"), ("pm_card_insufficient_funds", "INSUFFICIENT_FUNDS")],
)
async def test_a_bad_card_is_declined_for_ever(provider: Stub, method: str, reason: str) -> None:
    request = order(method)
    charge = (await provider.Charge(request)).charge
    assert (charge.state, charge.decline_reason) == (DECLINED, reason)
    request.payment_method = "pm_card_ok"
    assert (await provider.Charge(request)).charge == charge


async def test_fifty_charges_at_once_under_one_key_are_one_charge(provider: Stub) -> None:
    request = order()
    answers = await asyncio.gather(*(provider.Charge(request) for _ in range(50)))
    assert len({answer.charge.charge_id for answer in answers}) == 1
    assert len(await statement(provider)) == 1


async def test_slow_charges_at_once_under_one_key_are_one_charge(
    provider: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_by(monkeypatch, 0.05)
    request = order("pm_card_slow")
    answers = await asyncio.gather(*(provider.Charge(request) for _ in range(5)))
    assert len({answer.charge.charge_id for answer in answers}) == 1
    assert len(await statement(provider)) == 1


@pytest.mark.parametrize("change", [{"amount_minor": 4_201}, {"currency": "USD"}])
async def test_a_key_used_for_another_amount_or_currency_is_refused(provider: Stub, change: dict[str, object]) -> None:
    request = order()
    await provider.Charge(request)
    other = pb.ChargeRequest(payment_id=request.payment_id, payment_method="pm_card_ok")
    other.amount_minor, other.currency = request.amount_minor, request.currency
    for name, value in change.items():
        setattr(other, name, value)
    assert await refused(provider.Charge(other)) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_flaky_card_fails_twice_and_then_works(provider: Stub) -> None:
    request = order("pm_card_flaky")
    for _ in range(2):
        assert await refused(provider.Charge(request)) == (grpc.StatusCode.UNAVAILABLE, "TRY_AGAIN")
    assert await statement(provider) == []
    assert (await provider.Charge(request)).charge.state == APPROVED
    assert (await provider.Charge(request)).charge.state == APPROVED


async def test_a_lost_reply_is_a_charge_that_the_next_call_shows(provider: Stub) -> None:
    request = order("pm_card_lost_reply")
    assert (await refused(provider.Charge(request, timeout=0.3)))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    charge = (await provider.Charge(request)).charge
    assert charge.state == APPROVED
    assert await statement(provider) == [charge]


async def test_a_slow_charge_lands_although_its_caller_gave_up(provider: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_by(monkeypatch, 0.3)
    request = order("pm_card_slow")
    assert (await refused(provider.Charge(request, timeout=0.1)))[0] == grpc.StatusCode.DEADLINE_EXCEEDED

    async def landed() -> bool:
        return [charge.payment_id for charge in await statement(provider)] == [request.payment_id]

    await eventually(landed)


async def test_after_a_tombstone_the_key_never_charges(provider: Stub) -> None:
    request = order()
    tombstone = (await provider.CancelCharge(pb.CancelChargeRequest(payment_id=request.payment_id))).charge
    assert (tombstone.state, tombstone.amount_minor, tombstone.currency) == (CANCELLED, 0, "")
    for method in METHODS:
        request.payment_method = method
        assert (await provider.Charge(request)).charge == tombstone


async def test_a_tombstone_beats_the_slow_charge_that_still_sleeps(
    provider: Stub, servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_by(monkeypatch, 0.5)
    request = order("pm_card_slow")
    charging = asyncio.ensure_future(provider.Charge(request))

    async def sleeping() -> bool:
        return len(servicer._delayed) == 1

    await eventually(sleeping)
    tombstone = (await provider.CancelCharge(pb.CancelChargeRequest(payment_id=request.payment_id))).charge
    assert tombstone.state == CANCELLED
    assert (await charging).charge == tombstone
    assert await statement(provider) == [tombstone]


async def test_a_tombstone_that_comes_after_the_charge_shows_the_charge(provider: Stub) -> None:
    request = order()
    charge = (await provider.Charge(request)).charge
    assert (await provider.CancelCharge(pb.CancelChargeRequest(payment_id=request.payment_id))).charge == charge
    assert (await provider.Charge(request)).charge == charge


async def test_charge_and_tombstone_at_once_agree_on_who_won(provider: Stub) -> None:
    for _ in range(30):
        request = order()
        charged, cancelled = await asyncio.gather(
            provider.Charge(request), provider.CancelCharge(pb.CancelChargeRequest(payment_id=request.payment_id))
        )
        assert charged.charge == cancelled.charge


async def test_a_refund_gives_everything_back_once(provider: Stub) -> None:
    request = order()
    await provider.Charge(request)
    refund = pb.RefundRequest(payment_id=request.payment_id)
    answers = await asyncio.gather(*(provider.Refund(refund) for _ in range(5)))
    assert {answer.charge.refunded_minor for answer in answers} == {4_200}
    assert (await provider.Charge(request)).charge == answers[0].charge


async def test_a_flaky_refund_fails_twice_and_then_works(provider: Stub) -> None:
    request = order("pm_card_refund_flaky")
    await provider.Charge(request)
    refund = pb.RefundRequest(payment_id=request.payment_id)
    for _ in range(2):
        assert await refused(provider.Refund(refund)) == (grpc.StatusCode.UNAVAILABLE, "TRY_AGAIN")
    assert (await provider.Refund(refund)).charge.refunded_minor == 4_200


async def test_a_refund_needs_money_that_was_taken_and_a_bank_that_takes_it(provider: Stub) -> None:
    unknown = pb.RefundRequest(payment_id=str(uuid4()))
    assert await refused(provider.Refund(unknown)) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_CHARGE")
    declined, stubborn = order("pm_card_declined"), order("pm_card_refund_refused")
    await asyncio.gather(provider.Charge(declined), provider.Charge(stubborn))
    for request, reason in ((declined, "NOT_CHARGED"), (stubborn, "REFUND_REFUSED")):
        refund = provider.Refund(pb.RefundRequest(payment_id=request.payment_id))
        assert await refused(refund) == (grpc.StatusCode.FAILED_PRECONDITION, reason)
    assert {charge.refunded_minor for charge in await statement(provider)} == {0}


async def test_the_statement_lists_everything_once_the_oldest_first(provider: Stub) -> None:
    made = [(await provider.Charge(order())).charge for _ in range(7)]
    assert await statement(provider, page_size=3) == made
    assert await statement(provider, page_size=7) == made


async def test_a_tampered_page_token_is_refused(provider: Stub) -> None:
    bad = pb.ListChargesRequest(page_token="MTAw")
    assert await refused(provider.ListCharges(bad)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payment_id": "7"}, "INVALID_ARGUMENT"),
        ({"payment_id": str(uuid4()).upper()}, "INVALID_ARGUMENT"),
        ({"amount_minor": 0}, "INVALID_ARGUMENT"),
        ({"amount_minor": -1}, "INVALID_ARGUMENT"),
        ({"amount_minor": 1_000_000_000_001}, "INVALID_ARGUMENT"),
        ({"currency": "euro"}, "INVALID_ARGUMENT"),
        ({"payment_method": "pm_card_of_a_friend"}, "UNKNOWN_PAYMENT_METHOD"),
    ],
)
async def test_a_wrong_order_is_refused_and_charges_nothing(
    provider: Stub, change: dict[str, object], reason: str
) -> None:
    request = order()
    for name, value in change.items():
        setattr(request, name, value)
    assert await refused(provider.Charge(request)) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert await statement(provider) == []
