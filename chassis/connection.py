"""One supervised connection to the broker: built, watched, dropped as a whole at the first doubt, and built again."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.abc import DeliveredMessage
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp.commands import Basic
from prometheus_client import Counter, Gauge
from yarl import URL

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 5.0
HEARTBEAT_S: Final = 5
SETUP_TIMEOUT_S: Final = 10.0
REFRESH_INTERVAL_S: Final = 30.0
REFRESH_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 1.0
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
# A shorter life does not reset the backoff: a connection that fails right after its set-up must not spin.
STABLE_S: Final = 10.0

_FAILURES = (*CONNECTION_EXCEPTIONS, TimeoutError)

_connected = Gauge("ticketrush_amqp_connected", "1 while this connection to the broker is up.", ("connection",))
_lost = Counter("ticketrush_amqp_connections_lost", "Connections to the broker that were dropped.", ("connection",))

Setup = Callable[[AbstractConnection], Awaitable[None]]
Refresh = Callable[[], Awaitable[None]]
Callback = Callable[[DeliveredMessage], None]


def cancelled_from_outside() -> bool:
    """Whether the CancelledError at hand was asked of this task; aiormq also raises it for a channel that is gone."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextmanager
def naming_losses() -> Iterator[None]:
    """Raises ConnectionError for what aiormq raises when a channel is closed without a reason: a bare Exception."""
    try:
        yield
    except Exception as error:
        if type(error) is Exception:
            raise ConnectionError("the channel was closed without a reason") from error
        raise


class Link:
    """Keeps one connection up for as long as `run` runs.

    `setup` builds channels and consumers on each new connection; whatever it opened with `channel` and `consume` takes
    the whole connection down with it when it is lost: half a connection is never kept. `refresh`, when given, is called
    every REFRESH_INTERVAL_S within REFRESH_TIMEOUT_S and doubles as the watchdog of a peer that went silent.
    """

    def __init__(self, url: str, *, name: str, setup: Setup, refresh: Refresh | None = None) -> None:
        self._url = url
        self._name = name
        self._setup = setup
        self._refresh = refresh
        self._up = asyncio.Event()
        self._end: asyncio.Future[str] | None = None
        self._over = False

    @property
    def connected(self) -> bool:
        """Whether the set-up is complete and nothing has been lost since."""
        return self._up.is_set()

    async def up(self) -> None:
        """Returns as soon as the link is connected."""
        await self._up.wait()

    def drop(self, reason: str) -> None:
        """Gives up the present connection; `run` builds a new one."""
        self._finish(self._end, reason)

    def leave(self) -> None:
        """Gives up the present connection, and builds no new one; `run` waits to be cancelled."""
        self._over = True
        self.drop("left")

    async def run(self) -> None:
        """Connects, and connects again with exponential backoff and full jitter, until cancelled."""
        loop = asyncio.get_running_loop()
        ceiling_s = BACKOFF_FIRST_S
        while True:
            begin = loop.time()
            reason = await self._live()
            if cancelled_from_outside():
                # An error that met the cancellation deep in a library has taken its place.
                raise asyncio.CancelledError
            if self._over:
                await asyncio.Event().wait()
            _lost.labels(self._name).inc()
            log.warning("%s: no connection to the broker: %s", self._name, reason)
            ceiling_s = BACKOFF_FIRST_S if loop.time() - begin > STABLE_S else min(ceiling_s * 2, BACKOFF_MAX_S)
            await asyncio.sleep(random.uniform(0, ceiling_s))  # noqa: S311 # jitter

    async def channel(self, connection: AbstractConnection, *, confirms: bool = False) -> AbstractChannel:
        """Opens a channel whose loss drops the link; with `confirms`, returned messages raise."""
        channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await channel.initialize()
        end = self._end
        channel.close_callbacks.add(lambda _, error: self._finish(end, f"channel closed: {error!r}"))
        return channel

    async def consume(self, channel: AbstractChannel, queue: str, callback: Callback, *, no_ack: bool = False) -> str:
        """Consumes from a queue and returns the consumer tag; a cancel sent by the broker drops the link.

        The callback is called in order of arrival and must only enqueue.
        """

        async def deliver(message: DeliveredMessage) -> None:
            callback(message)

        underlay = await channel.get_underlay_channel()
        end = self._end
        underlay.on_consumer_cancel_callbacks.add(lambda _: self._finish(end, f"{queue}: cancelled by the broker"))
        consuming = await underlay.basic_consume(queue, deliver, no_ack=no_ack)
        return consuming.consumer_tag or ""

    async def _live(self) -> str:
        """One connection from cradle to grave; returns why it ended."""
        end = self._end = asyncio.get_running_loop().create_future()
        connection = _Connection(URL(self._url).update_query(heartbeat=HEARTBEAT_S, name=self._name))
        try:
            with naming_losses():
                async with asyncio.timeout(SETUP_TIMEOUT_S):
                    await connection.connect(timeout=CONNECT_TIMEOUT_S)
                    connection.close_callbacks.add(lambda _, error: self._finish(end, f"connection closed: {error!r}"))
                    await self._setup(connection)
            if cancelled_from_outside():
                # wait_for before Python 3.12, deep in a library, loses a cancellation that meets its result.
                raise asyncio.CancelledError  # noqa: TRY301 - ends as any other cancellation does
            if not end.done():
                self._up.set()
                _connected.labels(self._name).set(1)
                log.info("%s: connected to the broker", self._name)
            return await self._watch(end)
        except asyncio.CancelledError:
            if cancelled_from_outside():
                self._finish(end, "stopped")
                await connection.end(gently=True)
                raise
            return "its channel is gone"
        except _FAILURES as error:
            return repr(error)
        finally:
            self._finish(end, "it is over")
            _connected.labels(self._name).set(0)
            await connection.end(gently=False)

    def _finish(self, end: "asyncio.Future[str] | None", reason: str) -> None:
        """Ends the connection that `end` belongs to; news of an earlier one come too late to matter."""
        if end is not None and not end.done():
            self._up.clear()
            end.set_result(reason)

    async def _watch(self, end: "asyncio.Future[str]") -> str:
        while True:
            await asyncio.wait({end}, timeout=REFRESH_INTERVAL_S)
            if end.done():
                return end.result()
            if self._refresh is not None:
                with naming_losses():
                    async with asyncio.timeout(REFRESH_TIMEOUT_S):
                        await self._refresh()
                if cancelled_from_outside():
                    # As in the set-up: it has met the result of one of many requests, and is lost.
                    raise asyncio.CancelledError


def _read_what_can_be_read(properties: Basic.Properties, flags: int, data: bytes) -> None:
    """Leaves unset what cannot be read, and what comes behind it.

    The broker passes on what anybody put into the properties of a message, unread: names that are no text, years beyond
    9999. The library raises, the connection is lost, the message comes again: for ever, with all that waits behind it.
    """
    with suppress(Exception):
        _unmarshal(properties, flags, data)


_unmarshal = Basic.Properties.unmarshal
Basic.Properties.unmarshal = _read_what_can_be_read  # type: ignore[assignment,method-assign] # the library offers no other place


class _Connection(aio_pika.Connection):
    """A plain connection that can also be cut: its close() waits for a peer that may never answer."""

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self._socket = _Socket(TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory())
        self.kwargs["transport_factory"] = self._socket

    async def end(self, *, gently: bool) -> None:
        """Closes the connection; after CLOSE_TIMEOUT_S, or at once unless `gently`, whatever the peer does.

        Cancelling waits for the end all the same: aiormq, cancelled in the middle of its close, hangs its loop.
        """
        ending = asyncio.ensure_future(self._end(gently=gently))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait({ending})
            raise

    async def _end(self, *, gently: bool) -> None:
        if self.is_closed:
            return
        closing = asyncio.ensure_future(self.close())
        if gently:
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
        if not closing.done():
            if self._socket.writer is not None:
                self._socket.writer.transport.abort()
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)


class _Socket(TransportFactory):
    def __init__(self, factory: TransportFactory) -> None:
        self._factory = factory
        self.writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self.writer = await self._factory.create(url, **kwargs)
        return reader, self.writer
