"""A connection is whole or gone, and comes back by itself."""

import asyncio
from contextlib import suppress
from threading import Thread

import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage

from chassis import connection as connection_module
from chassis.connection import Link
from tests.chassis.broker import close_without_a_reason, running, until
from tests.chassis.proxy import Proxy


async def nothing(_: AbstractConnection) -> None:
    return


async def test_a_broker_that_is_not_there_yet_is_waited_for(wire: Proxy) -> None:
    wire.refuse()
    link = Link(wire.url, name="link", setup=nothing)
    async with running(link.run()):
        up = asyncio.create_task(link.up())
        await asyncio.wait({up}, timeout=0.3)
        assert not link.connected
        wire.accept()
        await up
        assert link.connected


async def test_a_cancellation_that_a_library_swallows_ends_it_all_the_same(wire: Proxy) -> None:
    reached = asyncio.Event()

    async def setup(_: AbstractConnection) -> None:
        try:
            reached.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return

    running_link = asyncio.create_task(Link(wire.url, name="link", setup=setup).run())
    await reached.wait()
    running_link.cancel()
    done, _ = await asyncio.wait({running_link}, timeout=10)
    assert done
    assert running_link.cancelled()


async def test_a_cancellation_that_an_error_takes_the_place_of_ends_it_all_the_same(wire: Proxy) -> None:
    """As that of a handshake which fails just then."""
    reached = asyncio.Event()

    async def setup(_: AbstractConnection) -> None:
        try:
            reached.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ConnectionError("the certificate is another's") from None

    running_link = asyncio.create_task(Link(wire.url, name="link", setup=setup).run())
    await reached.wait()
    running_link.cancel()
    done, _ = await asyncio.wait({running_link}, timeout=10)
    running_link.cancel()
    assert done
    assert running_link.cancelled()


async def test_a_cancellation_that_is_lost_in_a_refresh_ends_it_all_the_same(
    wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a request whose answer comes just then."""
    monkeypatch.setattr(connection_module, "REFRESH_INTERVAL_S", 0.01)
    reached = asyncio.Event()

    async def refresh() -> None:
        if reached.is_set():
            return
        reached.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    running_link = asyncio.create_task(Link(wire.url, name="link", setup=nothing, refresh=refresh).run())
    await reached.wait()
    running_link.cancel()
    done, _ = await asyncio.wait({running_link}, timeout=10)
    running_link.cancel()
    assert done
    assert running_link.cancelled()


async def test_a_silent_broker_is_not_waited_for_without_end(wire: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_TIMEOUT_S", 0.2)
    wire.mute()
    attempts: list[AbstractConnection] = []

    async def setup(connection: AbstractConnection) -> None:
        attempts.append(connection)

    link = Link(wire.url, name="link", setup=setup)
    async with running(link.run()):
        await asyncio.sleep(0.3)
        assert attempts == []
        wire.unmute()
        await until(lambda: link.connected)


async def test_a_peer_that_went_silent_is_found_out_by_the_refresh(
    wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "REFRESH_INTERVAL_S", 0.1)
    monkeypatch.setattr(connection_module, "REFRESH_TIMEOUT_S", 0.2)
    own: list[AbstractChannel] = []

    async def setup(connection: AbstractConnection) -> None:
        own.append(await link.channel(connection))

    async def refresh() -> None:
        await own[-1].declare_exchange("amq.topic", passive=True)

    link = Link(wire.url, name="link", setup=setup, refresh=refresh)
    async with running(link.run()):
        await link.up()
        wire.mute()
        await until(lambda: not link.connected)
        wire.unmute()
        await until(lambda: link.connected)


async def test_a_lost_channel_takes_the_connection_with_it(wire: Proxy) -> None:
    channels: list[AbstractChannel] = []

    async def setup(connection: AbstractConnection) -> None:
        channels.append(await link.channel(connection))

    link = Link(wire.url, name="link", setup=setup)
    async with running(link.run()):
        await link.up()
        await channels[0].close()
        await until(lambda: not link.connected)
        await until(lambda: link.connected)
    assert len(channels) == 2


async def test_news_of_an_earlier_connection_do_not_end_the_present_one(
    wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "REFRESH_INTERVAL_S", 0.1)
    channels: list[AbstractChannel] = []

    async def setup(connection: AbstractConnection) -> None:
        channels.append(await link.channel(connection))

    async def refresh() -> None:
        if len(channels) == 1:
            raise TimeoutError

    link = Link(wire.url, name="link", setup=setup, refresh=refresh)
    async with running(link.run()):
        await until(lambda: len(channels) == 2 and link.connected)
        await channels[0].close_callbacks(ConnectionError("at last"))
        assert link.connected


async def test_a_consumer_cancelled_by_the_broker_takes_the_connection_with_it(
    wire: Proxy, channel: AbstractChannel, unique: str
) -> None:
    arrived: list[DeliveredMessage] = []

    async def setup(connection: AbstractConnection) -> None:
        consuming = await link.channel(connection)
        await consuming.declare_queue(unique, durable=True, arguments={"x-queue-type": "quorum"})
        await link.consume(consuming, unique, arrived.append)

    link = Link(wire.url, name="link", setup=setup)
    async with running(link.run()):
        await link.up()
        await channel.queue_delete(unique)
        await until(lambda: not link.connected)
        await until(lambda: link.connected)
    await channel.queue_delete(unique)


async def test_a_channel_that_is_closed_without_a_reason_in_mid_call_costs_the_connection_and_no_more(
    wire: Proxy, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "REFRESH_INTERVAL_S", 0.1)
    channels: list[AbstractChannel] = []
    asking = asyncio.Event()

    async def setup(connection: AbstractConnection) -> None:
        channels.append(await link.channel(connection))

    async def refresh() -> None:
        asking.set()
        await channels[-1].declare_queue(unique, exclusive=True)

    link = Link(wire.url, name="link", setup=setup, refresh=refresh)
    async with running(link.run()):
        await link.up()
        wire.mute()
        asking.clear()
        await asking.wait()
        await asyncio.sleep(0)
        await close_without_a_reason(await channels[0].get_underlay_channel())
        wire.unmute()
        await until(lambda: len(channels) > 1 and link.connected)


async def test_a_set_up_that_fails_is_tried_again_after_a_while(wire: Proxy) -> None:
    failures = [TimeoutError(), ConnectionError()]

    async def setup(_: AbstractConnection) -> None:
        if failures:
            raise failures.pop()

    link = Link(wire.url, name="link", setup=setup)
    async with running(link.run()):
        await until(lambda: link.connected)
    assert failures == []


async def test_nothing_is_left_of_a_connection_that_was_dropped(wire: Proxy) -> None:
    """Also when the peer takes nothing more: a half-open consumer would keep its messages."""
    connections: list[AbstractConnection] = []
    channels: list[AbstractChannel] = []

    async def setup(connection: AbstractConnection) -> None:
        connections.append(connection)
        channels.append(await link.channel(connection))

    async def stuff() -> None:
        underlay = await channels[0].get_underlay_channel()
        for _ in range(64):
            await underlay.basic_publish(b"x" * 1_000_000, routing_key="nobody")

    link = Link(wire.url, name="link", setup=setup)
    async with running(link.run()):
        await link.up()
        wire.mute()
        stuck = asyncio.create_task(stuff())
        done, _ = await asyncio.wait({stuck}, timeout=1)
        assert not done, "the socket took 64 MB"
        link.drop("a test")
        await until(lambda: connections[0].is_closed)
        await asyncio.gather(stuck, return_exceptions=True)


@pytest.mark.parametrize("silent", ["never", "from the first", "in between"])
async def test_a_process_ends_right_after_its_link(wire: Proxy, silent: str) -> None:
    """aiormq, cancelled in the middle of a close as asyncio.run cancels what is left, would never let it end."""
    here = asyncio.get_running_loop()

    async def process() -> None:
        link = Link(wire.url, name="link", setup=nothing)
        async with running(link.run()):
            if silent == "from the first":
                await asyncio.wait({asyncio.create_task(link.up())}, timeout=0.1)
                return
            await link.up()
            if silent == "in between":
                here.call_soon_threadsafe(wire.mute)
                await asyncio.sleep(0.05)

    for _ in range(3):
        if silent == "from the first":
            wire.mute()
        else:
            wire.unmute()
        thread = Thread(target=asyncio.run, args=(process(),), daemon=True)
        thread.start()
        await until(lambda thread=thread: not thread.is_alive())
