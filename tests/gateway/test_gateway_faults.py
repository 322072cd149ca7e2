"""A broker that is cut off, knows no queue, or is full; and outcomes that come late."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity
from google.protobuf.duration_pb2 import Duration

from chassis import connection
from chassis.topology import WorkQueue, declare, declare_exchange
from contract import keys
from gateway.inbox import Inbox
from tests.chassis.broker import channel_to, running, until
from tests.chassis.proxy import Proxy
from tests.gateway.answers import held, reason_of, retry_delay_s
from tests.gateway.consumers import Consumers
from tests.gateway.requests import reserve
from tests.gateway.running import Gateway, serving
from ticketrush.v1 import ticketing_pb2 as pb

AT_ONCE = Duration()
LONG = Duration(seconds=20)


async def test_a_cut_connection_is_survived_within_the_call(
    gateway: Gateway, consumers: Consumers, wire: Proxy
) -> None:
    consumers.decide = held
    wire.cut()
    answer = await gateway.ticketing.Reserve(reserve(wait=LONG), timeout=20)
    assert answer.reservation.state == pb.Reservation.STATE_HELD
    await until(gateway.is_ready)


async def test_a_broker_that_is_gone_is_told_and_forgotten_once_it_is_back(
    gateway: Gateway, consumers: Consumers, wire: Proxy
) -> None:
    consumers.decide = held
    request = reserve()
    wire.refuse()
    await until(lambda: not gateway.is_ready())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await gateway.ticketing.Reserve(request, timeout=0.5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(refused.value) == "BROKER_UNAVAILABLE"
    wire.accept()
    await until(gateway.is_ready)
    assert (await gateway.ticketing.Reserve(request)).reservation.state == pb.Reservation.STATE_HELD


async def test_an_outcome_that_was_lost_on_the_way_is_told_again_behind_a_new_connection(
    gateway: Gateway, consumers: Consumers, wire: Proxy
) -> None:
    call = asyncio.ensure_future(gateway.ticketing.Reserve(reserve(wait=LONG)))
    command = (await consumers.hears(1))[0]
    wire.refuse()
    await until(lambda: not gateway.is_ready())
    await consumers.answer(command, held(command))
    consumers.decide = held
    wire.accept()
    assert (await call).reservation.state == pb.Reservation.STATE_HELD
    assert {again.message_id for again in consumers.heard} == {command.message_id}
    await until(gateway.is_ready)


async def test_a_broker_that_takes_a_lost_connection_for_alive_keeps_nobody_waiting(
    gateway: Gateway, consumers: Consumers, wire: Proxy
) -> None:
    # As one does that was frozen: what is exclusive to that connection stays locked.
    consumers.decide = held
    await gateway.ticketing.Reserve(reserve(wait=LONG))
    wire.abandon()
    await until(lambda: not gateway.is_ready())
    await until(gateway.is_ready)
    answer = await gateway.ticketing.Reserve(reserve(wait=LONG), timeout=20)
    assert answer.reservation.state == pb.Reservation.STATE_HELD


async def test_a_queue_that_is_gone_behind_its_consumer_is_missed(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REFRESH_INTERVAL_S", 0.05)
    names: list[str] = []
    inbox = Inbox(broker_url, kind="replies", take=lambda _: None, connected=names.append)
    async with running(inbox.link.run()):
        await until(lambda: inbox.link.connected)
        assert inbox._channel is not None
        underlay = await inbox._channel.get_underlay_channel()
        # With its last consumer the queue goes; that the consumer goes is no news to the one who sends it away.
        for tag in list(underlay.consumers):  # type: ignore[attr-defined] # of the library's own class
            await underlay.basic_cancel(tag)
        await until(lambda: len(names) == 2)
        async with channel_to(broker_url) as other:
            with pytest.raises(ChannelNotFoundEntity):
                await other.declare_queue(names[0], passive=True)


async def test_a_command_nobody_is_bound_to_take_is_said_again_until_somebody_is(
    empty_broker_url: str, owner_address: str
) -> None:
    async with channel_to(empty_broker_url) as channel, AsyncExitStack() as exits:
        # It is the owners' to declare, and the gateway's to demand.
        await declare_exchange(channel, keys.EXCHANGE)
        gateway = await exits.enter_async_context(serving(empty_broker_url, owner_address))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.ticketing.Reserve(reserve(wait=AT_ONCE), timeout=0.5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        call = asyncio.ensure_future(gateway.ticketing.Reserve(reserve(wait=LONG), timeout=20))
        consumers = Consumers(channel)
        consumers.decide = held
        await consumers.open()
        assert (await call).reservation.state == pb.Reservation.STATE_HELD


async def test_a_full_queue_is_told_with_a_time_to_come_back(empty_broker_url: str, owner_address: str) -> None:
    async with channel_to(empty_broker_url) as channel:
        await declare_small_queue(channel)
        async with serving(empty_broker_url, owner_address) as gateway:
            refused = await refusal_when_full(gateway)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(refused) == "OVERLOADED"
    assert retry_delay_s(refused) > 0


async def declare_small_queue(channel: AbstractChannel) -> None:
    small = WorkQueue("small", (keys.RESERVATION_REQUESTED,), service="small", length_max=1)
    await declare(channel, keys.EXCHANGE, [small], retry_delays_s=())


async def refusal_when_full(gateway: Gateway) -> grpc.aio.AioRpcError:
    # A quorum queue takes a few more than its limit before it refuses.
    for _ in range(50):
        try:
            await gateway.ticketing.Reserve(reserve(wait=AT_ONCE))
        except grpc.aio.AioRpcError as error:
            return error
    raise AssertionError("the queue was never full")
