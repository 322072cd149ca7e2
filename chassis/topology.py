"""The broker's durable furniture: work queues, their retry ladder, and the backstop behind the delivery limit.

exchange --routing key--> work queue --5 s, 60 s, 600 s--> back to exactly that queue
                              |
                              +--delivery limit--> parked.<service> --Backstop--> table parked_message
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from pamqp.common import FieldTable

LENGTH_MAX: Final = 50_000
BYTES_MAX: Final = 256 * 1024 * 1024
DELIVERY_LIMIT: Final = 20
# In effect none: what the last queue gives up is gone. -1 says so only from RabbitMQ 4.0 on.
PARKED_DELIVERY_LIMIT: Final = 1_000_000
RETRY_DELAYS_S: Final[tuple[float, ...]] = (5, 60, 600)
DECLARE_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True)
class WorkQueue:
    """A durable quorum queue with a required consumer. Full (`length_max` messages, `bytes_max`) it refuses: Rejected.

    Its arguments cannot be changed on a live broker: another name, then drain the old one.
    """

    name: str
    routing_keys: tuple[str, ...]
    service: str
    length_max: int = LENGTH_MAX
    bytes_max: int = BYTES_MAX


def parked_queue(service: str) -> str:
    """The queue behind the delivery limit of all the service's work queues."""
    return f"parked.{service}"


def retry_exchange(exchange: str, delay_s: float) -> str:
    """Direct exchange; published to with the name of a work queue, the message is back there after `delay_s`."""
    return f"{exchange}.retry.{delay_s:g}s"


async def declare_exchange(channel: AbstractChannel, exchange: str) -> None:
    """Declares the durable topic exchange that everything is said on."""
    await channel.declare_exchange(exchange, ExchangeType.TOPIC, durable=True, timeout=DECLARE_TIMEOUT_S)


async def declare(
    channel: AbstractChannel,
    exchange: str,
    queues: Sequence[WorkQueue],
    *,
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
) -> None:
    """Declares and binds the exchange and all that the queues need. Idempotent.

    Raises aio_pika.exceptions.AMQPError, among them ChannelPreconditionFailed when a queue exists with other arguments.
    """
    await declare_exchange(channel, exchange)
    for service in sorted({queue.service for queue in queues}):
        await declare_parked_queue(channel, service)
    for queue in queues:
        await _declare_work_queue(channel, exchange, queue)
        for delay_s in retry_delays_s:
            await _declare_retry(channel, exchange, queue, delay_s)


async def declare_parked_queue(channel: AbstractChannel, service: str) -> None:
    """Declares the backstop of a service. Idempotent."""
    await _declare_quorum(channel, parked_queue(service), {"x-delivery-limit": PARKED_DELIVERY_LIMIT})


async def _declare_work_queue(channel: AbstractChannel, exchange: str, queue: WorkQueue) -> None:
    arguments: FieldTable = {
        "x-max-length": queue.length_max,
        "x-max-length-bytes": queue.bytes_max,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": parked_queue(queue.service),
        "x-dead-letter-strategy": "at-least-once",
    }
    await _declare_quorum(channel, queue.name, arguments)
    for routing_key in queue.routing_keys:
        await _bind(channel, queue.name, exchange, routing_key)


async def _declare_retry(channel: AbstractChannel, exchange: str, queue: WorkQueue, delay_s: float) -> None:
    """One queue per delay, because messages expire only at the head of a queue.

    The routing key is the work queue's name and stays so when the message is dead-lettered to the default exchange.
    """
    source = retry_exchange(exchange, delay_s)
    name = f"{queue.service}.retry.{delay_s:g}s"
    arguments: FieldTable = {
        "x-message-ttl": round(delay_s * 1000),
        "x-max-length": LENGTH_MAX,
        "x-max-length-bytes": BYTES_MAX,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
    }
    await channel.declare_exchange(source, ExchangeType.DIRECT, durable=True, timeout=DECLARE_TIMEOUT_S)
    await _declare_quorum(channel, name, arguments)
    await _bind(channel, name, source, queue.name)


async def _declare_quorum(channel: AbstractChannel, name: str, arguments: FieldTable) -> None:
    # At-least-once dead-lettering works only where a full queue refuses.
    always: FieldTable = {"x-queue-type": "quorum", "x-overflow": "reject-publish"}
    await channel.declare_queue(name, durable=True, arguments=always | arguments, timeout=DECLARE_TIMEOUT_S)


async def _bind(channel: AbstractChannel, queue: str, exchange: str, routing_key: str) -> None:
    underlay = await channel.get_underlay_channel()
    await underlay.queue_bind(queue, exchange, routing_key, timeout=DECLARE_TIMEOUT_S)
