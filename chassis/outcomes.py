"""Answers to waiting calls: straight to the caller's queue, without confirm; a loss costs only a PENDING answer."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.abc import AbstractChannel
from prometheus_client import Counter

from chassis.batch import pack, properties, split
from chassis.connection import cancelled_from_outside, naming_losses

WAITING_MAX: Final = 20_000
SEND_TIMEOUT_S: Final = 5.0
NAME_BYTES_MAX: Final = 255
"""Of a queue: a longer one the protocol cannot carry, and whoever waits behind it would wait on."""

_sent = Counter("ticketrush_amqp_outcomes_sent", "Outcomes handed to the broker.")
_dropped = Counter("ticketrush_amqp_outcomes_dropped", "Outcomes dropped: no connection, too many waiting, no name.")


class Outcomes:
    """Collects what one turn of the loop says to one queue and sends it as one message.

    `drop` is told why the connection is not to be trusted any more.
    """

    def __init__(self, drop: Callable[[str], None]) -> None:
        self._drop = drop
        self._channel: AbstractChannel | None = None
        self._waiting: dict[str, list[bytes]] = {}
        self._count = 0
        self._sending: asyncio.Task[None] | None = None

    def attach(self, channel: AbstractChannel | None) -> None:
        """Sends on this channel from now on; with None, what is sent is dropped."""
        self._channel = channel

    def send(self, reply_to: str, envelope: bytes) -> None:
        """Never waits, never raises."""
        is_name = len(reply_to.encode()) <= NAME_BYTES_MAX
        if self._channel is None or self._count >= WAITING_MAX or not is_name:
            _dropped.inc()
            return
        self._count += 1
        self._waiting.setdefault(reply_to, []).append(envelope)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_waiting())

    def tasks(self) -> set[asyncio.Task[None]]:
        """What has to end before nothing waits any more."""
        return set() if self._sending is None else {self._sending}

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                reply_to, envelopes = self._waiting.popitem()
                self._count -= len(envelopes)
                for run in split(envelopes):
                    await self._send(reply_to, run)
        finally:
            self._sending = None

    async def _send(self, reply_to: str, envelopes: Sequence[bytes]) -> None:
        if self._channel is None:
            _dropped.inc(len(envelopes))
            return
        try:
            with naming_losses():
                await self._channel.basic_publish(
                    pack(envelopes),
                    routing_key=reply_to,
                    properties=properties({}, transient=True),
                    timeout=SEND_TIMEOUT_S,
                )
            _sent.inc(len(envelopes))
        except TimeoutError:
            _dropped.inc(len(envelopes))
            self._drop(f"an outcome was not taken within {SEND_TIMEOUT_S} s")
        except CONNECTION_EXCEPTIONS:
            _dropped.inc(len(envelopes))
        except asyncio.CancelledError:
            _dropped.inc(len(envelopes))
            if cancelled_from_outside():
                raise
