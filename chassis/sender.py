"""The connection for saying things: one message at a time, each confirmed, refused or unknown."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError
from aio_pika.exceptions import PublishError as MessageReturned
from aiormq.abc import AbstractChannel as Channel
from pamqp.commands import Basic
from prometheus_client import Histogram

from chassis.connection import Link, cancelled_from_outside, naming_losses
from chassis.outcomes import Outcomes
from chassis.topology import declare_exchange

PUBLISH_TIMEOUT_S: Final = 5.0
# What could not leave for so long is given back; whoever still needs it says it again.
BUFFER_AGE_S: Final = 5.0

_seconds = Histogram(
    "ticketrush_amqp_publish_seconds",
    "From sending a message to its confirm.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5),
)

Declare = Callable[[AbstractChannel], Awaitable[None]]


class PublishError(Exception):
    """The broker did not confirm that every queue concerned took the message."""

    def __str__(self) -> str:
        return f"{type(self).__name__}: {type(self).__doc__}"


class Unroutable(PublishError):
    """No queue is bound to take it, and it has a required consumer: not taken."""


class Rejected(PublishError):
    """A queue concerned refused it, being full: not taken by all of them."""


class OutcomeUnknown(PublishError):
    """The connection was lost, or the broker silent, after it was sent: it may or may not have been taken."""


class Overloaded(PublishError):
    """Our own buffer is full: not taken."""


class NotSent(PublishError):
    """It waited BUFFER_AGE_S and never left, as the broker is gone or too slow: not taken."""


class Sender:
    """One supervised connection with a confirming channel, and one without for outcomes.

    On each connect and every 30 s the exchange is declared, or demanded if others own it (`passive`), and whatever
    `declare` declares.
    """

    def __init__(self, url: str, *, exchange: str, name: str, declare: Declare | None, passive: bool = False) -> None:
        self.link = Link(url, name=name, setup=self._setup, refresh=self._refresh)
        self.outcomes = Outcomes(self.link.drop)
        self._exchange = exchange
        self._declare = declare
        self._passive = passive
        self._plain: AbstractChannel | None = None
        self._confirming: Channel | None = None

    async def send(
        self, exchange: str, routing_key: str, body: bytes, properties: Basic.Properties, *, mandatory: bool
    ) -> None:
        """Returns when the broker confirmed the message. Raises Unroutable, Rejected, OutcomeUnknown, NotSent.

        A message without answer for PUBLISH_TIMEOUT_S costs the connection: all that is in flight is as uncertain.
        """
        channel = self._confirming
        if channel is None:
            raise NotSent
        try:
            with _seconds.time(), naming_losses():
                await channel.basic_publish(
                    body,
                    exchange=exchange,
                    routing_key=routing_key,
                    properties=properties,
                    mandatory=mandatory,
                    timeout=PUBLISH_TIMEOUT_S,
                )
        except MessageReturned:
            raise Unroutable from None
        except DeliveryError:
            raise Rejected from None
        except (*CONNECTION_EXCEPTIONS, TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and cancelled_from_outside():
                raise
            if channel is self._confirming:
                self.link.drop(f"publish: {error!r}")
            raise OutcomeUnknown from error

    async def _setup(self, connection: AbstractConnection) -> None:
        self._plain = await self.link.channel(connection)
        await self._refresh()
        self.outcomes.attach(await self._plain.get_underlay_channel())
        confirming = await self.link.channel(connection, confirms=True)
        self._confirming = await confirming.get_underlay_channel()

    async def _refresh(self) -> None:
        if self._plain is not None:
            await declare_exchange(self._plain, self._exchange, passive=self._passive)
            if self._declare is not None:
                await self._declare(self._plain)
