"""A TCP proxy that does to connections what networks do: silence, resets, delays, and one way only."""

import asyncio
import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from deploy.services import LOOPBACK

CHUNK_BYTES: Final = 64 * 1024
# What is on its way over a slow link; beyond that the sender waits, as on a real one.
ON_THE_WAY_BYTES_MAX: Final = 4 * 1024 * 1024
CONNECT_TIMEOUT_S: Final = 2.0
# Makes close() send RST instead of FIN.
_LINGER_NOT: Final = struct.pack("ii", 1, 0)

Way = Literal["request", "reply"]


@dataclass(frozen=True)
class Weather:
    """What the network does to what travels. `swallows`: on these ways nothing arrives, and nobody is told."""

    swallows: frozenset[Way] = frozenset()
    delay_s: dict[Way, float] = field(default_factory=dict)
    bytes_per_s: float = float("inf")


FAIR: Final = Weather()
BLACK_HOLE: Final = Weather(swallows=frozenset({"request", "reply"}))
REPLIES_LOST: Final = Weather(swallows=frozenset({"reply"}))
REQUESTS_LOST: Final = Weather(swallows=frozenset({"request"}))


class Proxy:
    """Forwards to the first of its targets that takes the connection, beginning with the next one each time.

    A connection that has lost a byte stays silent for ever: whoever is at its ends has to find out, as when a router
    has forgotten it. New connections feel only the weather of now.
    """

    def __init__(self, name: str, target: str) -> None:
        self.name = name
        self.targets = [target]
        self.weather = FAIR
        self.address = ""
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self) -> None:
        """Listens on a free port, which `address` names from then on."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0, limit=CHUNK_BYTES)
        self.address = f"{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Closes every connection, and listens no more."""
        if self._server is not None:
            self._server.close()
        self.reset()

    def reset(self) -> int:
        """Sends RST on every connection; returns on how many."""
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        return len(connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        self._connections.add(connection)
        try:
            await self._serve(connection, reader, writer)
        finally:
            connection.abort()
            self._connections.discard(connection)

    async def _serve(
        self, connection: "_Connection", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if "request" in self.weather.swallows:
            while await _read(reader):
                pass
            return
        server = await self._connect()
        if server is None:
            return
        connection.writers.append(server[1])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_Lane(self, "request", reader, server[1]).carry())
            tasks.create_task(_Lane(self, "reply", server[0], writer).carry())

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self._turn += 1
        for place in range(len(self.targets)):
            host, _, port = self.targets[(self._turn + place) % len(self.targets)].rpartition(":")
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await asyncio.open_connection(host, int(port), limit=CHUNK_BYTES)
        return None


class _Connection:
    """Both ends of one connection."""

    def __init__(self, proxy: Proxy, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.proxy = proxy

    def abort(self) -> None:
        for writer in self.writers:
            end = writer.get_extra_info("socket")
            if end is not None:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            writer.transport.abort()


class _Lane:
    """One way of one connection: what comes in goes out in order, late or never."""

    def __init__(self, proxy: Proxy, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._way = way
        self._source = source
        self._sink = sink
        self._late: deque[tuple[float, bytes]] = deque()
        self._late_bytes = 0
        self._free_at = 0.0
        self._silent = False

    async def carry(self) -> None:
        """Carries until either end closes."""
        delivering: asyncio.Task[None] | None = None
        try:
            while data := await _read(self._source):
                weather = self._proxy.weather
                self._silent = self._silent or self._way in weather.swallows
                if self._silent:
                    continue
                if not self._late and not weather.delay_s.get(self._way) and weather.bytes_per_s == float("inf"):
                    self._sink.write(data)
                    await self._sink.drain()
                    continue
                self._put(weather, data)
                if delivering is None or delivering.done():
                    delivering = asyncio.create_task(self._deliver())
                if self._late_bytes > ON_THE_WAY_BYTES_MAX:
                    await delivering
            if delivering is not None:
                await delivering
        except ConnectionError:
            self._sink.transport.abort()
        finally:
            if delivering is not None:
                delivering.cancel()
            if not self._silent:
                self._sink.close()

    def _put(self, weather: Weather, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + len(data) / weather.bytes_per_s
        arrives = self._free_at + weather.delay_s.get(self._way, 0.0)
        if self._late:
            arrives = max(arrives, self._late[-1][0])
        self._late.append((arrives, data))
        self._late_bytes += len(data)

    async def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        while self._late:
            await asyncio.sleep(self._late[0][0] - loop.time())
            _, data = self._late.popleft()
            self._late_bytes -= len(data)
            self._sink.write(data)
            with suppress(ConnectionError):
                await self._sink.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """The next bytes; none when the connection is over, however it ended."""
    try:
        return await reader.read(CHUNK_BYTES)
    except ConnectionError:
        return b""
