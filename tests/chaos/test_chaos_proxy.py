"""The proxy does to connections what it says, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chaos.proxy import BLACK_HOLE, FAIR, REPLIES_LOST, REQUESTS_LOST, Proxy, Weather

SOON_S = 0.3
DEADLINE_S = 5.0


@asynccontextmanager
async def echo(prefix: bytes = b"") -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that says back what it hears; its address, and all that it heard."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                heard.append(data)
                writer.write(prefix + data)
        except ConnectionError:
            pass  # it was reset: that is what some of these tests do
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    server.close()


@pytest.fixture
async def heard() -> AsyncIterator[tuple[Proxy, list[bytes]]]:
    async with echo() as (address, heard):
        proxy = Proxy("link", address)
        await proxy.start()
        yield proxy, heard
        await proxy.stop()


class Caller:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, line: bytes, *, within_s: float = DEADLINE_S) -> bytes | None:
        """What comes back, None when nothing does."""
        self.writer.write(line)
        try:
            async with asyncio.timeout(within_s):
                return await self.reader.read(1024)
        except TimeoutError:
            return None


@asynccontextmanager
async def calling(proxy: Proxy) -> AsyncIterator[Caller]:
    host, _, port = proxy.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()


async def test_in_fair_weather_it_forwards_both_ways(heard: tuple[Proxy, list[bytes]]) -> None:
    proxy, _ = heard
    async with calling(proxy) as caller:
        assert await caller.ask(b"a") == b"a"
        assert await caller.ask(b"b") == b"b"


async def test_a_black_hole_takes_everything_and_says_nothing(heard: tuple[Proxy, list[bytes]]) -> None:
    proxy, arrived = heard
    async with calling(proxy) as before:
        assert await before.ask(b"a") == b"a"
        proxy.weather = BLACK_HOLE
        assert await before.ask(b"b", within_s=SOON_S) is None
        async with calling(proxy) as meanwhile:
            assert await meanwhile.ask(b"c", within_s=SOON_S) is None
    assert arrived == [b"a"]


async def test_a_connection_that_lost_a_byte_stays_silent_and_a_new_one_is_as_good_as_any(
    heard: tuple[Proxy, list[bytes]],
) -> None:
    proxy, _ = heard
    async with calling(proxy) as idle, calling(proxy) as busy:
        assert await idle.ask(b"a") == b"a"
        assert await busy.ask(b"a") == b"a"
        proxy.weather = BLACK_HOLE
        assert await busy.ask(b"b", within_s=SOON_S) is None
        proxy.weather = FAIR
        assert await busy.ask(b"c", within_s=SOON_S) is None
        assert await idle.ask(b"d") == b"d"
        async with calling(proxy) as new:
            assert await new.ask(b"e") == b"e"


async def test_half_open_requests_arrive_and_no_reply_comes_back(heard: tuple[Proxy, list[bytes]]) -> None:
    proxy, arrived = heard
    async with calling(proxy) as caller:
        assert await caller.ask(b"a") == b"a"
        proxy.weather = REPLIES_LOST
        assert await caller.ask(b"b", within_s=SOON_S) is None
        assert arrived == [b"a", b"b"]
        proxy.weather = REQUESTS_LOST
        assert await caller.ask(b"c", within_s=SOON_S) is None
        assert arrived == [b"a", b"b"]


async def test_a_reset_ends_connections_with_an_error_and_not_as_if_all_was_said(
    heard: tuple[Proxy, list[bytes]],
) -> None:
    proxy, _ = heard
    async with calling(proxy) as caller:
        assert await caller.ask(b"a") == b"a"
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await caller.ask(b"b")


async def test_a_slow_link_delivers_late_and_in_order(heard: tuple[Proxy, list[bytes]]) -> None:
    proxy, arrived = heard
    loop = asyncio.get_running_loop()
    async with calling(proxy) as caller:
        proxy.weather = Weather(delay_s={"request": 0.2})
        begin = loop.time()
        assert await caller.ask(b"a") == b"a"
        assert loop.time() - begin >= 0.2
        caller.writer.write(b"late")
        await asyncio.sleep(0.05)
        proxy.weather = FAIR
        caller.writer.write(b"later")
        async with asyncio.timeout(DEADLINE_S):
            assert await caller.reader.readexactly(9) == b"latelater"
    assert b"".join(arrived) == b"alatelater"


async def test_a_target_that_is_gone_is_passed_over_for_its_twin() -> None:
    async with echo(b"first ") as (first, _), echo(b"second ") as (second, _):
        proxy = Proxy("link", first)
        proxy.targets.append(second)
        await proxy.start()
        answers = set()
        for _ in range(4):
            async with calling(proxy) as caller:
                answers.add(await caller.ask(b"a"))
        assert answers == {b"first a", b"second a"}
        proxy.targets[0] = "127.0.0.1:1"
        for _ in range(4):
            async with calling(proxy) as caller:
                assert await caller.ask(b"a") == b"second a"
        await proxy.stop()
