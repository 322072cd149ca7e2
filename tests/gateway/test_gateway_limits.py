"""What one caller, one address and one call may take of a gateway, and the settings that say otherwise."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from chassis.callers import OPERATOR, Caller
from contract import access
from gateway.__main__ import Settings
from gateway.limits import CALLER_BURST, REQUEST_BYTES_MAX, SYSTEM_BURST
from tests.gateway.answers import reason_of, retry_delay_s
from tests.gateway.consumers import Consumers
from tests.gateway.requests import cancel, new_id, pay, reserve
from tests.gateway.running import Gateway, serving
from tests.gateway.servicer import Owner
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

FEW: dict[str, Any] = {"limit_loopback": True, "address_calls_per_s": 0.01, "address_burst": 5}


def settings(**chosen: Any) -> Settings:
    return Settings(
        listen_address="127.0.0.1:0",
        metrics_address="127.0.0.1:0",
        amqp_url="amqp://nobody:nothing@127.0.0.1/",  # pragma: allowlist secret
        reservations_address="127.0.0.1:1",
        payments_address="127.0.0.1:1",
        **chosen,
    )


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


@pytest.mark.usefixtures("consumers")  # who declare the exchange
async def test_an_address_that_calls_too_often_is_told_when_it_may_again(
    broker_url: str, owner_address: str, owner: Owner
) -> None:
    async with serving(broker_url, owner_address, **FEW) as gateway:
        request = catalog.GetEventRequest(event_id=new_id())
        for _ in range(5):
            await gateway.catalog.GetEvent(request)
        refused = await refusal(gateway.catalog.GetEvent(request))
        assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert 90 < retry_delay_s(refused) <= 100
        assert len(owner.asked) == 5


@pytest.mark.usefixtures("consumers")  # who declare the exchange
async def test_loopback_may_call_as_often_as_it_likes(broker_url: str, owner_address: str) -> None:
    async with serving(broker_url, owner_address, **FEW | {"limit_loopback": False}) as gateway:
        await asyncio.gather(*(gateway.catalog.GetEvent(catalog.GetEventRequest(event_id=new_id())) for _ in range(50)))


@pytest.mark.parametrize(
    ("role", "burst"),
    [
        (access.BUYER, CALLER_BURST),
        (access.ORGANISER, CALLER_BURST),
        (access.DOOR, SYSTEM_BURST),
        (access.SERVICE, SYSTEM_BURST),
        (OPERATOR, 3 * SYSTEM_BURST),
    ],
)
def test_who_calls_for_many_may_call_more_often_and_operators_as_they_like(role: str, burst: int) -> None:
    # So slow that nothing comes back meanwhile.
    limits = settings(caller_calls_per_s=0.001, system_calls_per_s=0.001).limits()
    caller = Caller("somebody", frozenset({role}))
    assert sum(limits.caller_wait_s(caller) == 0 for _ in range(3 * SYSTEM_BURST)) == burst


@pytest.mark.usefixtures("consumers")  # who declare the exchange
async def test_streams_of_one_address_are_bounded(broker_url: str, owner_address: str, owner: Owner) -> None:
    event_id = new_id()
    owner.tickets[event_id] = []
    async with serving(broker_url, owner_address, limit_loopback=True, address_streams=2) as gateway:
        request = pb.WatchTicketsRequest(event_id=event_id)
        watches = [gateway.ticketing.WatchTickets(request) for _ in range(2)]
        for watch in watches:
            await watch.read()
        refused = await refusal(gateway.ticketing.WatchTickets(request).read())
        assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert retry_delay_s(refused) > 0


@pytest.mark.parametrize(
    "sent",
    [
        reserve(buyer_id="x" * REQUEST_BYTES_MAX),
        pay(payment_method="x" * REQUEST_BYTES_MAX),
        cancel(buyer_id="x" * REQUEST_BYTES_MAX),
        pb.ListTicketsRequest(page_token="x" * REQUEST_BYTES_MAX),
    ],
    ids=lambda sent: type(sent).__name__,
)
async def test_a_call_that_never_needs_much_room_has_none(gateway: Gateway, sent: Any) -> None:
    method = getattr(gateway.ticketing, type(sent).__name__.removesuffix("Request"))
    refused = await refusal(method(sent))
    assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_LARGE")


def test_the_largest_right_requests_have_room() -> None:
    room = settings().limits().request_bytes
    largest = {
        "TicketingService/Reserve": reserve(
            buyer_id="\u20ac" * 200, ticket_ids=[new_id() for _ in range(100)], wait=Duration(seconds=30, nanos=1)
        ),
        "CatalogService/WithdrawTickets": catalog.WithdrawTicketsRequest(
            request_id=new_id(), event_id=new_id(), ticket_ids=[new_id() for _ in range(1_000)]
        ),
        "CatalogService/CreateEvent": catalog.CreateEventRequest(
            request_id=new_id(), event=catalog.Event(name="\u20ac" * 200, venue="\u20ac" * 200, currency="EUR")
        ),
        "CatalogService/CreateTickets": catalog.CreateTicketsRequest(
            request_id=new_id(),
            event_id=new_id(),
            blocks=[
                catalog.Block(
                    section="stalls",
                    seats=catalog.Seats(
                        seats=[catalog.Seat(row=f"row {n // 100}", seat=f"seat {n}") for n in range(100_000)]
                    ),
                )
            ],
        ),
    }
    for method, request in largest.items():
        assert request.ByteSize() <= room(f"/ticketrush.v1.{method}")


async def test_a_call_without_a_deadline_has_ours(broker_url: str, owner_address: str, consumers: Consumers) -> None:
    """It would wait 30 s for an outcome that never comes."""
    async with serving(broker_url, owner_address, call_timeout_s=1.0) as gateway, asyncio.timeout(15):
        answer = await gateway.ticketing.Reserve(reserve(wait=Duration(seconds=30)))
        assert answer.reservation.state == pb.Reservation.STATE_PENDING
        await consumers.hears(1)


async def test_a_deadline_is_cut_to_ours(broker_url: str, owner_address: str, consumers: Consumers) -> None:
    async with serving(broker_url, owner_address, call_timeout_s=1.0) as gateway, asyncio.timeout(15):
        answer = await gateway.ticketing.Reserve(reserve(wait=Duration(seconds=30)), timeout=3_600)
        assert answer.reservation.state == pb.Reservation.STATE_PENDING
        await consumers.hears(1)


@pytest.mark.parametrize("proxies", ["10.0.0.1/8", "somewhere", "10.0.0.0/33"])
def test_proxies_that_are_no_addresses_are_refused_at_the_start(proxies: str) -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        settings(trusted_proxies=proxies)
