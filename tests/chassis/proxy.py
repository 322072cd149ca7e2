"""A TCP proxy that does to connections what networks and dying brokers do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yarl import URL


class Proxy:
    """Forwards to a server until told otherwise. `url` is the server's with the proxy's address in it."""

    def __init__(self, target: str) -> None:
        self._target = URL(target)
        self._writers: set[asyncio.StreamWriter] = set()
        self._to_server: set[asyncio.StreamWriter] = set()
        self._hanging: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._heard = asyncio.Event()
        self._heard.set()
        self._refusing = False
        self._generation = 0
        self.url = ""

    def cut(self) -> None:
        """Resets every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def mute(self) -> None:
        """Connections stay open, and nothing passes any more, either way."""
        self._heard.clear()

    def unmute(self) -> None:
        """Passes on what was held back."""
        self._heard.set()

    def forget(self) -> None:
        """Nothing passes on the connections of now any more, and nobody is told; new ones are as good as any."""
        self._generation += 1

    def abandon(self) -> None:
        """Resets every connection for its caller; the server goes on taking it for alive."""
        self._hanging |= self._to_server
        for writer in self._writers - self._to_server:
            writer.transport.abort()

    def refuse(self) -> None:
        """Resets every connection, old or new."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        """Takes connections again."""
        self._refusing = False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self._refusing:
            writer.transport.abort()
            return
        server_reader, server_writer = await asyncio.open_connection(self._target.host, self._target.port)
        self._writers.add(server_writer)
        self._to_server.add(server_writer)
        for source, sink in ((reader, server_writer), (server_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        generation = self._generation
        try:
            while data := await source.read(65536):
                await self._heard.wait()
                if generation == self._generation:
                    sink.write(data)
                    await sink.drain()
        except ConnectionError:
            if sink not in self._hanging:
                sink.transport.abort()
        finally:
            if sink not in self._hanging:
                sink.close()


@asynccontextmanager
async def proxy(target: str) -> AsyncIterator[Proxy]:
    """A proxy on a free port, with every connection cut at the end."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy._connected, "127.0.0.1", 0)
    proxy.url = str(URL(target).with_port(server.sockets[0].getsockname()[1]))
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        for pump in proxy._pumps:
            pump.cancel()
