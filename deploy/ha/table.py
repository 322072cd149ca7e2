"""How many there are of each part, on which ports, and what stands behind which door."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from deploy.services import FRONTEND, PROCESSES, Service

# Two of each service, as on two machines: what has `a` in its name would be on one of them, `b` on the other.
SIDES: Final = ("a", "b")
# The card processor is somebody else's; the one that stands in for it here keeps its books in one file.
ONCE: Final = frozenset({"provider"})
BROKERS: Final = ("broker-1", "broker-2", "broker-3")
# Who is the primary is decided by a majority.
ETCDS: Final = ("etcd-1", "etcd-2", "etcd-3")
DATABASES: Final = tuple(f"postgres-{side}" for side in SIDES)
BALANCERS: Final = tuple(f"balancer-{side}" for side in SIDES)
EPMD: Final = "epmd"
SERVERS: Final = (*ETCDS, EPMD, *BROKERS, *DATABASES, *BALANCERS)
_BY_NAME: Final = MappingProxyType({service.name: service for service in PROCESSES})
# Whom others call without being told which of the two: doors of the balancers, beside those of the servers.
CALLED: Final = ("gateway", FRONTEND.name, "reservations", "payments")
DOORS: Final = (*CALLED, "postgres", "rabbitmq", "rabbitmq_management")


@dataclass(frozen=True)
class Instance:
    """One of the processes of a service."""

    service: Service
    side: str

    @property
    def name(self) -> str:
        return self.service.name if self.service.name in ONCE else f"{self.service.name}-{self.side}"

    @property
    def port(self) -> str:
        """The name of its port."""
        return self.name

    @property
    def metrics_port(self) -> str:
        """The name of the port of its numbers."""
        return f"{self.name}_metrics"


def on_side(side: str) -> tuple[Instance, ...]:
    """What runs on a side, in the order of starting."""
    return tuple(Instance(service, side) for service in PROCESSES if side == SIDES[0] or service.name not in ONCE)


INSTANCES: Final = tuple(instance for side in SIDES for instance in on_side(side))
# In the order of starting; stopping is the reverse.
NAMES: Final = (*SERVERS, *(instance.name for instance in INSTANCES))


def door(name: str) -> str:
    """The name of the port of a door."""
    return f"door_{name}"


def ports() -> Mapping[str, str]:
    """The process that holds each port, by the port's name; doors are both balancers', and said to be the first's."""
    return dict(_ports())


def _ports() -> Iterator[tuple[str, str]]:
    for name in DOORS:
        yield door(name), BALANCERS[0]
    for name in BALANCERS:
        yield name, name
    for name in ETCDS:
        yield name, name
        yield f"{name}_peer", name
    for name in DATABASES:
        yield name, name
        yield f"{name}_patroni", name
    yield EPMD, EPMD
    for name in BROKERS:
        yield name, name
        yield f"{name}_management", name
        yield f"{name}_metrics", name
        yield f"{name}_distribution", name
    for instance in INSTANCES:
        yield instance.port, instance.name
        yield instance.metrics_port, instance.name


def of(service: str) -> tuple[Instance, ...]:
    """The processes of a service."""
    return tuple(instance for instance in INSTANCES if instance.service == _BY_NAME[service])
