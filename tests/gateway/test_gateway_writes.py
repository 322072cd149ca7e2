"""Reserve, Pay and CancelReservation through a real broker: what is said, and what the caller is told."""

import asyncio
from functools import partial

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from contract import reasons
from tests.gateway.answers import fields_of, held, paid, reason_of, refuse, reservation
from tests.gateway.consumers import Consumers
from tests.gateway.requests import best_available, cancel, new_id, pay, reserve
from tests.gateway.running import Gateway, serving
from tests.gateway.servicer import Owner
from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.v1 import ticketing_pb2 as pb

AT_ONCE = Duration()
LONG = Duration(seconds=20)


async def test_reserve_answers_with_the_decision(gateway: Gateway, consumers: Consumers) -> None:
    consumers.decide = held
    answer = await gateway.ticketing.Reserve(reserve())
    assert answer.reservation.state == pb.Reservation.STATE_HELD
    assert answer.reservation.reservation_id == consumers.heard[0].subject_id


async def test_a_rejected_reservation_is_an_answer_and_no_error(gateway: Gateway, consumers: Consumers) -> None:
    consumers.decide = lambda command: messages.Outcome(
        reservation=reservation(command, pb.Reservation.STATE_REJECTED, reject_reason=reasons.TICKETS_TAKEN)
    )
    answer = await gateway.ticketing.Reserve(best_available())
    assert answer.reservation.reject_reason == reasons.TICKETS_TAKEN


async def test_the_same_request_has_the_same_ids_each_time_also_at_another_gateway(
    gateway: Gateway, consumers: Consumers, broker_url: str, owner_address: str
) -> None:
    consumers.decide = held
    request = reserve()
    answers = [await gateway.ticketing.Reserve(request) for _ in range(2)]
    async with serving(broker_url, owner_address) as restarted:
        answers.append(await restarted.ticketing.Reserve(request))
    assert len({answer.reservation.reservation_id for answer in answers}) == 1
    assert len({command.message_id for command in consumers.heard}) == 1
    assert len(consumers.heard) == 3


async def test_no_wait_answers_pending_once_the_broker_has_the_command(gateway: Gateway, consumers: Consumers) -> None:
    request = reserve(wait=AT_ONCE)
    answer = await gateway.ticketing.Reserve(request)
    assert answer.reservation == pb.Reservation(
        reservation_id=answer.reservation.reservation_id,
        event_id=request.event_id,
        buyer_id=request.buyer_id,
        state=pb.Reservation.STATE_PENDING,
    )
    assert (await consumers.hears(1))[0].subject_id == answer.reservation.reservation_id


async def test_a_wait_that_runs_out_answers_pending(gateway: Gateway) -> None:
    answer = await gateway.ticketing.Reserve(reserve(wait=Duration(nanos=50_000_000)))
    assert answer.reservation.state == pb.Reservation.STATE_PENDING


async def test_the_wait_is_cut_below_the_deadline(gateway: Gateway) -> None:
    answer = await gateway.ticketing.Reserve(reserve(wait=LONG), timeout=0.5)
    assert answer.reservation.state == pb.Reservation.STATE_PENDING


async def test_calls_that_say_the_same_are_all_answered(gateway: Gateway, consumers: Consumers) -> None:
    request = reserve(wait=LONG)
    calls = [asyncio.ensure_future(gateway.ticketing.Reserve(request)) for _ in range(3)]
    heard = await consumers.hears(3)
    await consumers.answer(heard[0], held(heard[0]))
    for answer in await asyncio.gather(*calls):
        assert answer.reservation.state == pb.Reservation.STATE_HELD


async def test_each_gateway_answers_its_own_callers(
    gateway: Gateway, consumers: Consumers, broker_url: str, owner_address: str
) -> None:
    consumers.decide = held
    async with serving(broker_url, owner_address) as other:
        requests = [reserve() for _ in range(20)]
        answers = await asyncio.gather(
            *((gateway if number % 2 else other).ticketing.Reserve(request) for number, request in enumerate(requests))
        )
    assert [answer.reservation.event_id for answer in answers] == [request.event_id for request in requests]
    assert all(answer.reservation.state == pb.Reservation.STATE_HELD for answer in answers)
    assert len({command.reply_to for command in consumers.heard}) == 2


async def test_a_wrong_request_is_refused_with_its_fields_and_nothing_is_said(
    gateway: Gateway, consumers: Consumers
) -> None:
    consumers.decide = held
    with pytest.raises(grpc.aio.AioRpcError) as wrong:
        await gateway.ticketing.Reserve(reserve(event_id="42", ticket_ids=[]))
    assert wrong.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(wrong.value) == {"event_id", "ticket_ids"}
    right = reserve()
    await gateway.ticketing.Reserve(right)
    assert [command.reserve_tickets.request_id for command in consumers.heard] == [right.request_id]


@pytest.mark.parametrize("state", [pb.Payment.STATE_APPROVED, pb.Payment.STATE_REJECTED, pb.Payment.STATE_REFUND_DUE])
async def test_pay_answers_with_payment_and_reservation(
    gateway: Gateway, consumers: Consumers, state: "pb.Payment.State.ValueType"
) -> None:
    consumers.decide = lambda command: paid(command, state)
    request = pay()
    answer = await gateway.ticketing.Pay(request)
    assert answer.payment.state == state
    assert answer.reservation.reservation_id == request.reservation_id


async def test_pay_leaves_an_unknown_reservation_unset(gateway: Gateway, consumers: Consumers) -> None:
    consumers.decide = lambda command: messages.Outcome(payment=paid(command, pb.Payment.STATE_REJECTED).payment)
    answer = await gateway.ticketing.Pay(pay())
    assert answer.payment.state == pb.Payment.STATE_REJECTED
    assert not answer.HasField("reservation")


async def test_pay_is_not_answered_by_a_payment_that_is_undecided(gateway: Gateway, consumers: Consumers) -> None:
    call = asyncio.ensure_future(gateway.ticketing.Pay(pay(wait=LONG)))
    command = (await consumers.hears(1))[0]
    for state in (pb.Payment.STATE_PENDING, pb.Payment.STATE_APPROVED):
        await consumers.answer(command, paid(command, state))
    assert (await call).payment.state == pb.Payment.STATE_APPROVED


async def test_pay_answers_pending_when_the_wait_runs_out(gateway: Gateway, consumers: Consumers) -> None:
    request = pay(wait=AT_ONCE, amount_minor=700)
    answer = await gateway.ticketing.Pay(request)
    assert answer.payment == pb.Payment(
        payment_id=(await consumers.hears(1))[0].subject_id,
        reservation_id=request.reservation_id,
        amount_minor=700,
        state=pb.Payment.STATE_PENDING,
    )


async def test_cancel_answers_with_the_reservation(gateway: Gateway, consumers: Consumers) -> None:
    consumers.decide = lambda command: messages.Outcome(
        reservation=pb.Reservation(
            reservation_id=command.cancel_reservation.reservation_id, state=pb.Reservation.STATE_CANCELLED
        )
    )
    request = cancel()
    answer = await gateway.ticketing.CancelReservation(request)
    assert answer.reservation.reservation_id == request.reservation_id
    assert answer.reservation.state == pb.Reservation.STATE_CANCELLED


async def test_cancel_shows_the_reservation_as_it_is_when_the_wait_runs_out(gateway: Gateway, owner: Owner) -> None:
    request = cancel(wait=AT_ONCE)
    stored = pb.Reservation(
        reservation_id=request.reservation_id, buyer_id=request.buyer_id, state=pb.Reservation.STATE_HELD
    )
    owner.reservations[stored.reservation_id] = stored
    assert (await gateway.ticketing.CancelReservation(request)).reservation == stored


async def test_cancel_leaves_itself_time_to_read_before_the_deadline(gateway: Gateway, owner: Owner) -> None:
    request = cancel(wait=LONG)
    owner.reservations[request.reservation_id] = pb.Reservation(
        reservation_id=request.reservation_id, buyer_id=request.buyer_id, state=pb.Reservation.STATE_HELD
    )
    owner.before_answer = partial(asyncio.sleep, 0.15)
    answer = await gateway.ticketing.CancelReservation(request, timeout=1)
    assert answer.reservation.state == pb.Reservation.STATE_HELD


async def test_cancel_shows_nobody_elses_reservation(gateway: Gateway, owner: Owner) -> None:
    request = cancel(wait=AT_ONCE)
    owner.reservations[request.reservation_id] = pb.Reservation(
        reservation_id=request.reservation_id, buyer_id="bob", state=pb.Reservation.STATE_HELD
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await gateway.ticketing.CancelReservation(request)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(refused.value) == reasons.UNKNOWN_RESERVATION


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (reasons.REQUEST_ID_REUSED, grpc.StatusCode.ALREADY_EXISTS),
        (reasons.UNKNOWN_RESERVATION, grpc.StatusCode.NOT_FOUND),
        (reasons.ALREADY_CONFIRMED, grpc.StatusCode.FAILED_PRECONDITION),
        (reasons.ALREADY_REJECTED, grpc.StatusCode.FAILED_PRECONDITION),
        ("A_REASON_OF_TOMORROW", grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
async def test_a_refused_command_has_its_status_and_reason(
    gateway: Gateway, consumers: Consumers, reason: str, code: grpc.StatusCode
) -> None:
    consumers.decide = refuse(reason)
    for call in (
        gateway.ticketing.Reserve(reserve()),
        gateway.ticketing.Pay(pay()),
        gateway.ticketing.CancelReservation(cancel()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is code
        assert reason_of(refused.value) == reason


async def test_garbage_in_the_reply_queue_is_survived(gateway: Gateway, consumers: Consumers) -> None:
    call = asyncio.ensure_future(gateway.ticketing.Reserve(reserve(wait=LONG)))
    command = (await consumers.hears(1))[0]
    await consumers.answer_garbage(command)
    await consumers.answer(messages.Envelope(message_id=new_id(), reply_to=command.reply_to), held(command))
    await consumers.answer(command, held(command))
    assert (await call).reservation.state == pb.Reservation.STATE_HELD
