"""The broker's durable furniture: work queues, their shards and retry ladder, the backstop behind the delivery limit.

one shard:  exchange --routing keys--> NAME.0
several:    exchange --routing keys--> exchange NAME --header `shard`, hashed--> NAME.0, NAME.1, ...

NAME.n, NAME --5 s, 60 s, 600 s--> NAME        what comes again, by its name, whatever shards there are by then
        |
        +--delivery limit--> parked.<service> --Backstop--> table parked_message
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity
from pamqp.common import FieldTable

LENGTH_MAX: Final = 50_000
BYTES_MAX: Final = 256 * 1024 * 1024
DELIVERY_LIMIT: Final = 20
# In effect none: what the last queue gives up is gone. -1 says so only from RabbitMQ 4.0 on.
PARKED_DELIVERY_LIMIT: Final = 1_000_000
RETRY_DELAYS_S: Final[tuple[float, ...]] = (5, 60, 600)
DECLARE_TIMEOUT_S: Final = 5.0
SHARDS_MAX: Final = 32
SHARD_HEADER: Final = "shard"
"""Of every message: what it is hashed by."""


@dataclass(frozen=True)
class WorkQueue:
    """Durable quorum queues with a required consumer: its shards, and one by its own name for what comes again.

    Of each shard one consumer at a time is served, the others stand by. A full one (`length_max` messages, `bytes_max`)
    refuses: Rejected. Arguments cannot be changed on a live broker: another name, then drain the old one.
    """

    name: str
    routing_keys: tuple[str, ...]
    service: str
    length_max: int = LENGTH_MAX
    bytes_max: int = BYTES_MAX

    def shard(self, number: int) -> str:
        """The queue of one shard, counted from 0."""
        return f"{self.name}.{number}"

    def queues(self, shards: int) -> tuple[str, ...]:
        """All of them."""
        return (self.name, *map(self.shard, range(shards)))


def work_queue_of(queue: str) -> str:
    """The name of the work queue to which a queue belongs."""
    name, _, number = queue.rpartition(".")
    return name if number.isdecimal() else queue


def parked_queue(service: str) -> str:
    """The queue behind the delivery limit of all the service's work queues."""
    return f"parked.{service}"


def retry_exchange(exchange: str, delay_s: float) -> str:
    """Direct exchange; published to with the name of a work queue, the message is back there after `delay_s`."""
    return f"{exchange}.retry.{delay_s:g}s"


class Binding(NamedTuple):
    """What of `source` goes to `destination`, a queue unless it is `to_exchange`."""

    destination: str
    source: str
    routing_key: str
    to_exchange: bool = False


@dataclass(frozen=True)
class Furniture:
    """All that a broker has of ours, in the order in which it can be declared.

    `exchanges` by name, with their type; `queues` by name, with their arguments. All of it is durable. `unbound` is
    what another number of shards, or a release before there were any, had bound; a broker need not know it.
    """

    exchanges: Mapping[str, ExchangeType]
    queues: Mapping[str, FieldTable]
    bindings: Sequence[Binding]
    unbound: Sequence[Binding]


def furniture(
    exchange: str, queues: Sequence[WorkQueue], *, shards: int = 1, retry_delays_s: Sequence[float] = RETRY_DELAYS_S
) -> Furniture:
    """The exchange and all that the queues need. One shard asks for nothing that a stock broker does not have."""
    exchanges = {exchange: ExchangeType.TOPIC}
    declared = {parked_queue(service): _PARKED for service in sorted({queue.service for queue in queues})}
    bindings: list[Binding] = []
    unbound: list[Binding] = []
    for queue in queues:
        declared[queue.name] = _work_queue(queue.service, LENGTH_MAX, BYTES_MAX)
        declared |= {queue.shard(number): _shard(queue) for number in range(shards)}
        straight = [Binding(queue.shard(0), exchange, key) for key in queue.routing_keys]
        hashed = [Binding(queue.name, exchange, key, to_exchange=True) for key in queue.routing_keys]
        if shards > 1:
            exchanges[queue.name] = ExchangeType.X_CONSISTENT_HASH
            # The shards first: an exchange with nothing behind it would send back what is mandatory.
            bindings += [_hashed(queue, number) for number in range(shards)] + hashed
        else:
            bindings += straight
        unbound += straight if shards > 1 else hashed
        unbound += [Binding(queue.name, exchange, key) for key in queue.routing_keys]
        for delay_s in retry_delays_s:
            # One queue per delay, because messages expire only at the head of a queue. The routing key is the work
            # queue's name and stays so when the message is dead-lettered to the default exchange.
            source, name = retry_exchange(exchange, delay_s), f"{queue.service}.retry.{delay_s:g}s"
            exchanges[source] = ExchangeType.DIRECT
            declared[name] = _retry_queue(delay_s)
            bindings.append(Binding(name, source, queue.name))
    return Furniture(exchanges, declared, bindings, unbound)


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
    shards: int = 1,
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
) -> None:
    """Declares and binds the exchange and all that the queues need, then unbinds what leads elsewhere. Idempotent.

    For a moment a routing key may have two queues, and what is said is said twice. It may have none only where owners
    that are told different numbers of shards change it in the same moment, and then only until the next answer.

    Raises aio_pika.exceptions.AMQPError, among them ChannelPreconditionFailed when a queue exists with other arguments,
    and for several shards ConnectionClosed by a broker without the plugin rabbitmq_consistent_hash_exchange.
    """
    wanted = furniture(exchange, queues, shards=shards, retry_delays_s=retry_delays_s)
    for name, kind in wanted.exchanges.items():
        await channel.declare_exchange(
            name, kind, durable=True, arguments=exchange_arguments(kind), timeout=DECLARE_TIMEOUT_S
        )
    for name, arguments in wanted.queues.items():
        await channel.declare_queue(name, durable=True, arguments=arguments, timeout=DECLARE_TIMEOUT_S)
    await _bind(channel, wanted.bindings)
    await _unbind(channel, wanted.unbound)
    # Once more: meanwhile another owner may have unbound it, and we what that one had bound instead.
    await _bind(channel, [one for one in wanted.bindings if one.source == exchange])


async def left_over(connection: AbstractConnection, queue: WorkQueue, shards: int) -> Sequence[int]:
    """The shards, by number, that a larger number of them has left behind. There may be messages in them.

    They are looked for in ascending order until one is missing. Raises aio_pika.exceptions.AMQPError.
    """
    found: list[int] = []
    for number in range(shards, SHARDS_MAX):
        # A channel of its own, which the broker closes when there is no such queue.
        channel = connection.channel(publisher_confirms=False)
        try:
            await channel.initialize()
            await channel.declare_queue(queue.shard(number), passive=True, timeout=DECLARE_TIMEOUT_S)
        except ChannelNotFoundEntity:
            break
        await channel.close()
        found.append(number)
    return found


async def unbind_left_over(channel: AbstractChannel, queue: WorkQueue, numbers: Sequence[int]) -> None:
    """Nothing is said to these shards any more. Raises aio_pika.exceptions.AMQPError."""
    await _unbind(channel, [_hashed(queue, number) for number in numbers])


async def declare_parked_queue(channel: AbstractChannel, service: str) -> None:
    """Declares the backstop of a service. Idempotent."""
    await channel.declare_queue(parked_queue(service), durable=True, arguments=_PARKED, timeout=DECLARE_TIMEOUT_S)


def exchange_arguments(kind: ExchangeType) -> FieldTable:
    """What an exchange of this type is declared with."""
    return {"hash-header": SHARD_HEADER} if kind is ExchangeType.X_CONSISTENT_HASH else {}


async def _bind(channel: AbstractChannel, bindings: Sequence[Binding]) -> None:
    underlay = await channel.get_underlay_channel()
    for one in bindings:
        bind = underlay.exchange_bind if one.to_exchange else underlay.queue_bind
        await bind(one.destination, one.source, one.routing_key, timeout=DECLARE_TIMEOUT_S)


async def _unbind(channel: AbstractChannel, bindings: Sequence[Binding]) -> None:
    underlay = await channel.get_underlay_channel()
    for one in bindings:
        if one.to_exchange:
            await underlay.exchange_unbind(one.destination, one.source, one.routing_key, timeout=DECLARE_TIMEOUT_S)
        else:
            await underlay.queue_unbind(one.destination, one.source, one.routing_key, timeout=DECLARE_TIMEOUT_S)


def _hashed(queue: WorkQueue, number: int) -> Binding:
    """A binding's key is its weight there: the same for all."""
    return Binding(queue.shard(number), queue.name, "1")


# At-least-once dead-lettering works only where a full queue refuses.
_QUORUM: Final[FieldTable] = {"x-queue-type": "quorum", "x-overflow": "reject-publish"}
_PARKED: Final[FieldTable] = _QUORUM | {"x-delivery-limit": PARKED_DELIVERY_LIMIT}


def _work_queue(service: str, length_max: int, bytes_max: int) -> FieldTable:
    return _QUORUM | {
        "x-max-length": length_max,
        "x-max-length-bytes": bytes_max,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": parked_queue(service),
        "x-dead-letter-strategy": "at-least-once",
    }


def _shard(queue: WorkQueue) -> FieldTable:
    return _work_queue(queue.service, queue.length_max, queue.bytes_max) | {"x-single-active-consumer": True}


def _retry_queue(delay_s: float) -> FieldTable:
    return _QUORUM | {
        "x-message-ttl": round(delay_s * 1000),
        "x-max-length": LENGTH_MAX,
        "x-max-length-bytes": BYTES_MAX,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
    }
