"""The broker's durable furniture: work queues, their retry ladder, and the backstop behind the delivery limit.

exchange --routing key--> work queue --5 s, 60 s, 600 s--> back to exactly that queue
                              |
                              +--delivery limit--> parked.<service> --Backstop--> table parked_message
"""

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Furniture:
    """All that a broker has of ours, in the order in which it can be declared.

    `exchanges` by name, with their type; `queues` by name, with their arguments; `bindings` are (queue, exchange, key).
    All of it is durable.
    """

    exchanges: Mapping[str, ExchangeType]
    queues: Mapping[str, FieldTable]
    bindings: Sequence[tuple[str, str, str]]


def furniture(
    exchange: str, queues: Sequence[WorkQueue], retry_delays_s: Sequence[float] = RETRY_DELAYS_S
) -> Furniture:
    """The exchange and all that the queues need."""
    exchanges = {exchange: ExchangeType.TOPIC}
    declared = {parked_queue(service): _PARKED for service in sorted({queue.service for queue in queues})}
    bindings: list[tuple[str, str, str]] = []
    for queue in queues:
        declared[queue.name] = _work_queue(queue)
        bindings += [(queue.name, exchange, routing_key) for routing_key in queue.routing_keys]
        for delay_s in retry_delays_s:
            # One queue per delay, because messages expire only at the head of a queue. The routing key is the work
            # queue's name and stays so when the message is dead-lettered to the default exchange.
            source, name = retry_exchange(exchange, delay_s), f"{queue.service}.retry.{delay_s:g}s"
            exchanges[source] = ExchangeType.DIRECT
            declared[name] = _retry_queue(delay_s)
            bindings.append((name, source, queue.name))
    return Furniture(exchanges, declared, bindings)


async def declare_exchange(channel: AbstractChannel, exchange: str, *, passive: bool = False) -> None:
    """Declares the durable topic exchange that everything is said on; `passive`: only demands that it is there.

    Raises aio_pika.exceptions.AMQPError.
    """
    await channel.declare_exchange(
        exchange, ExchangeType.TOPIC, durable=True, passive=passive, timeout=DECLARE_TIMEOUT_S
    )


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
    wanted = furniture(exchange, queues, retry_delays_s)
    for name, kind in wanted.exchanges.items():
        await channel.declare_exchange(name, kind, durable=True, timeout=DECLARE_TIMEOUT_S)
    for name, arguments in wanted.queues.items():
        await channel.declare_queue(name, durable=True, arguments=arguments, timeout=DECLARE_TIMEOUT_S)
    underlay = await channel.get_underlay_channel()
    for queue, source, routing_key in wanted.bindings:
        await underlay.queue_bind(queue, source, routing_key, timeout=DECLARE_TIMEOUT_S)


async def declare_parked_queue(channel: AbstractChannel, service: str) -> None:
    """Declares the backstop of a service. Idempotent."""
    await channel.declare_queue(parked_queue(service), durable=True, arguments=_PARKED, timeout=DECLARE_TIMEOUT_S)


# At-least-once dead-lettering works only where a full queue refuses.
_QUORUM: Final[FieldTable] = {"x-queue-type": "quorum", "x-overflow": "reject-publish"}
_PARKED: Final[FieldTable] = _QUORUM | {"x-delivery-limit": PARKED_DELIVERY_LIMIT}


def _work_queue(queue: WorkQueue) -> FieldTable:
    return _QUORUM | {
        "x-max-length": queue.length_max,
        "x-max-length-bytes": queue.bytes_max,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": parked_queue(queue.service),
        "x-dead-letter-strategy": "at-least-once",
    }


def _retry_queue(delay_s: float) -> FieldTable:
    return _QUORUM | {
        "x-message-ttl": round(delay_s * 1000),
        "x-max-length": LENGTH_MAX,
        "x-max-length-bytes": BYTES_MAX,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
    }
