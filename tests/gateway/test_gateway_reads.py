"""Reads and the catalogue: passed on to their owner, completed by what this gateway accepted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from chassis.server import Health, build
from contract import reasons
from gateway.pending import AGE_MAX_S, Pending
from tests.gateway.answers import fields_of, reason_of
from tests.gateway.requests import new_id, pay, refund, reserve
from tests.gateway.running import Gateway
from tests.gateway.servicer import Owner
from ticketrush.v1 import catalog_pb2
from ticketrush.v1 import ticketing_pb2 as pb

AT_ONCE = Duration()
LONGER_THAN_RETRIES_S = 3


async def test_reads_show_what_the_owner_has(gateway: Gateway, owner: Owner) -> None:
    stored = pb.Reservation(reservation_id=new_id(), event_id=new_id(), state=pb.Reservation.STATE_HELD)
    payment = pb.Payment(payment_id=new_id(), state=pb.Payment.STATE_APPROVED)
    ticket = pb.Ticket(ticket_id=new_id(), version=1)
    owner.reservations[stored.reservation_id] = stored
    owner.payments[payment.payment_id] = payment
    owner.tickets[stored.event_id] = [ticket]
    call = gateway.ticketing
    asked = pb.GetReservationRequest(reservation_id=stored.reservation_id.upper())
    assert (await call.GetReservation(asked)).reservation == stored
    assert list((await call.ListReservations(pb.ListReservationsRequest())).reservations) == [stored]
    refunded = await call.RefundReservation(refund(reservation_id=stored.reservation_id))
    assert refunded.reservation == stored
    assert (await call.GetPayment(pb.GetPaymentRequest(payment_id=payment.payment_id))).payment == payment
    payments = await call.ListPayments(pb.ListPaymentsRequest(reservation_id=stored.reservation_id))
    assert list(payments.payments) == [payment]
    tickets = await call.ListTickets(pb.ListTicketsRequest(event_id=stored.event_id, page_size=10))
    assert list(tickets.tickets) == [ticket]


async def test_the_catalogue_is_passed_on(gateway: Gateway) -> None:
    event_id = new_id()
    answer = await gateway.catalog.GetEvent(catalog_pb2.GetEventRequest(event_id=event_id))
    assert answer.event == catalog_pb2.Event(event_id=event_id, name="Hamlet")


async def test_the_owners_refusal_reaches_the_caller_as_it_stands(gateway: Gateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await gateway.ticketing.GetReservation(pb.GetReservationRequest(reservation_id=new_id()))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(refused.value) == reasons.UNKNOWN_RESERVATION
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await gateway.ticketing.ListReservations(pb.ListReservationsRequest(page_token="tampered"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(refused.value) == {"page_token"}


async def test_a_wrong_read_is_refused_without_asking_anybody(gateway: Gateway, owner: Owner) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await gateway.ticketing.ListPayments(pb.ListPaymentsRequest(reservation_id="42", page_size=501))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(refused.value) == {"reservation_id", "page_size"}
    assert owner.asked == []


async def test_what_was_accepted_here_reads_as_pending_until_its_owner_knows_it(gateway: Gateway, owner: Owner) -> None:
    accepted = (await gateway.ticketing.Reserve(reserve(wait=AT_ONCE))).reservation
    asked = pb.GetReservationRequest(reservation_id=accepted.reservation_id)
    assert (await gateway.ticketing.GetReservation(asked)).reservation == accepted
    decided = pb.Reservation(reservation_id=accepted.reservation_id, state=pb.Reservation.STATE_HELD, version=1)
    owner.reservations[accepted.reservation_id] = decided
    assert (await gateway.ticketing.GetReservation(asked)).reservation == decided
    payment = (await gateway.ticketing.Pay(pay(wait=AT_ONCE))).payment
    assert (await gateway.ticketing.GetPayment(pb.GetPaymentRequest(payment_id=payment.payment_id))).payment == payment


async def test_an_owner_that_stumbles_is_asked_again(gateway: Gateway, owner: Owner) -> None:
    owner.failures_left = 2
    assert await gateway.ticketing.ListReservations(pb.ListReservationsRequest())
    assert owner.asked == ["ListReservations"] * 3


async def test_an_owner_is_not_asked_for_ever(gateway: Gateway, owner: Owner) -> None:
    owner.failures_left = 1_000
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await gateway.ticketing.ListReservations(pb.ListReservationsRequest())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(refused.value) == "SERVICE_UNAVAILABLE"
    assert len(owner.asked) == 5


async def test_an_owner_that_is_down_is_told_in_time_and_found_again_once_it_is_back(
    owner: Owner, gateway_to_nobody: tuple[Gateway, int]
) -> None:
    gateway, port = gateway_to_nobody
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await gateway.ticketing.ListReservations(pb.ListReservationsRequest(), timeout=0.5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(refused.value) == "SERVICE_UNAVAILABLE"
    assert gateway.is_ready(), "reads that fail are no reason to refuse writes"
    waiting = asyncio.ensure_future(gateway.ticketing.ListReservations(pb.ListReservationsRequest(), timeout=20))
    done, _ = await asyncio.wait({waiting}, timeout=LONGER_THAN_RETRIES_S)
    assert not done, "the deadline is far: it waits for the owner"
    async with owner_on(port, owner):
        assert await waiting


@asynccontextmanager
async def owner_on(port: int, owner: Owner) -> AsyncIterator[None]:
    server, _ = build(owner.register, Health({}))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield
    await server.stop(None)


def test_the_memory_of_what_is_pending_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.pending.ENTRIES_MAX", 2)
    pending: Pending[pb.Payment] = Pending()
    for payment_id in "abc":
        pending.add(payment_id, "ada", pb.Payment(payment_id=payment_id))
    assert [pending.find(payment_id) is not None for payment_id in "abc"] == [False, True, True]


def test_what_is_never_decided_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_000.0
    monkeypatch.setattr("gateway.pending.time.monotonic", lambda: now_s)
    pending: Pending[pb.Payment] = Pending()
    pending.add("a", "ada", pb.Payment())
    now_s += AGE_MAX_S + 1
    assert pending.find("a") is None


def test_what_was_accepted_first_under_an_id_stays() -> None:
    pending: Pending[pb.Payment] = Pending()
    first = pending.add("a", "ada", pb.Payment(amount_minor=1))
    assert pending.add("a", "ada", pb.Payment(amount_minor=2)) is first
