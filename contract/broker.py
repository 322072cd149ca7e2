"""What a broker must know of us before anybody connects: users and their permissions, exchanges, queues, bindings.

`python -m contract.broker` prints it as RabbitMQ's own definitions; `deploy/rabbitmq.definitions.json` is that, for
one shard.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from chassis.topology import RETRY_DELAYS_S, exchange_arguments, furniture, parked_queue, retry_exchange
from contract import keys

VIRTUAL_HOST: Final = "/"
# How the broker calls the default exchange, over which any queue can be written to by its name.
_DEFAULT: Final = "amq.default"
# Of any number: what a larger one has left is drained, too.
_SHARD: Final = r"\.[0-9]{1,2}"
# Of one gateway process each; named in gateway/inbox.py.
_OWN_QUEUE: Final = r"gateway\.(replies|facts)\.[0-9a-f]{32}"


class User(NamedTuple):
    """What a service may configure, write and read (names of exchanges and queues, as patterns), and which routing keys
    of the topic exchange it may say and bind."""

    configure: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()


def _owner(service: str) -> User:
    """Of work queues: of their shards, of the exchange that chooses among these, and of the queue for what comes again,
    which has its name. Who declares one that dead-letters must be able to write where it does: to the default exchange,
    over which the answers to the gateways go, too."""
    queues = [queue for queue in (*keys.RESERVATIONS_QUEUES, *keys.PAYMENTS_QUEUES) if queue.service == service]
    names = (*(queue.name for queue in queues), parked_queue(service))
    names += tuple(f"{service}.retry.{delay_s:g}s" for delay_s in RETRY_DELAYS_S)
    names += (keys.EXCHANGE, *(retry_exchange(keys.EXCHANGE, delay_s) for delay_s in RETRY_DELAYS_S))
    own = (*map(re.escape, names), *(re.escape(queue.name) + _SHARD for queue in queues))
    binds = tuple(key for queue in queues for key in queue.routing_keys)
    return User(own, (*own, re.escape(_DEFAULT)), own, keys.SAID_BY[service], binds)


USERS: Final[Mapping[str, User]] = {
    "gateway": User(
        configure=(_OWN_QUEUE,),
        write=(_OWN_QUEUE, keys.EXCHANGE),
        read=(_OWN_QUEUE, keys.EXCHANGE),
        says=keys.SAID_BY["gateway"],
        binds=keys.WATCHED,
    ),
    "reservations": _owner("reservations"),
    "payments": _owner("payments"),
    "scheduler": User(write=(keys.EXCHANGE,), says=keys.SAID_BY["scheduler"]),
    # Says facts again, and sends parked messages straight to their queues.
    "operator": User(
        write=(keys.EXCHANGE, re.escape(_DEFAULT)),
        says=tuple(dict.fromkeys(key for said in keys.SAID_BY.values() for key in said)),
    ),
}


def name_of(service: str) -> str:
    """Of the broker user of a service."""
    return f"ticketrush_{service}"


def definitions(shards: int = 1) -> dict[str, Any]:
    """RabbitMQ's definitions for so many shards of each work queue.

    The users have no passwords: nobody can log in as one until it is given its own.
    """
    wanted = furniture(keys.EXCHANGE, (*keys.RESERVATIONS_QUEUES, *keys.PAYMENTS_QUEUES), shards=shards)
    place = {"vhost": VIRTUAL_HOST}
    durable = {**place, "durable": True, "auto_delete": False}
    return {
        "vhosts": [{"name": VIRTUAL_HOST}],
        "users": [
            {
                "name": name_of(service),
                "password_hash": "",
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            }
            for service in USERS
        ],
        "permissions": [
            {
                "user": name_of(service),
                **place,
                "configure": _any_of(user.configure),
                "write": _any_of(user.write),
                "read": _any_of(user.read),
            }
            for service, user in USERS.items()
        ],
        "topic_permissions": [
            {
                "user": name_of(service),
                **place,
                "exchange": keys.EXCHANGE,
                "write": _any_of(map(re.escape, user.says)),
                "read": _any_of(map(re.escape, user.binds)),
            }
            for service, user in USERS.items()
        ],
        "exchanges": [
            {"name": name, **durable, "type": kind.value, "internal": False, "arguments": exchange_arguments(kind)}
            for name, kind in wanted.exchanges.items()
        ],
        "queues": [{"name": name, **durable, "arguments": arguments} for name, arguments in wanted.queues.items()],
        "bindings": [
            {
                "source": one.source,
                **place,
                "destination": one.destination,
                "destination_type": "exchange" if one.to_exchange else "queue",
                "routing_key": one.routing_key,
                "arguments": {},
            }
            for one in wanted.bindings
        ],
    }


def _any_of(patterns: Iterable[str]) -> str:
    """A pattern for whole names; the one of none fits nothing."""
    joined = "|".join(patterns)
    return f"^({joined})$" if joined else "^$"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(definitions(), indent=1) + "\n")
