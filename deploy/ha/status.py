"""How the parts of the stack of several do: the one address first, then what stands behind it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from deploy import rabbitmq
from deploy.errors import StackError
from deploy.ha import brokers, patroni
from deploy.ha.balancer import is_alive
from deploy.ha.etcd import Etcd
from deploy.ha.servers import Servers
from deploy.ha.stack import HaStack
from deploy.ha.table import BALANCERS, EPMD, ETCDS, INSTANCES, Instance, of
from deploy.ports import accepts
from deploy.services import LOOPBACK, PROCESSES, Service
from deploy.status import Status


def statuses(stack: HaStack) -> list[Status]:
    """One per part; empty before the first `up`. A database's role stands beside its name."""
    if not stack.env:
        return []
    # Each may take as long as its timeout.
    with ThreadPoolExecutor() as pool:
        instances = list(pool.map(partial(_instance, stack), INSTANCES))
    doors = [_door(stack, service, instances) for service in PROCESSES if service.is_public]
    return [*doors, *instances, *_servers(stack)]


def _door(stack: HaStack, service: Service, instances: Sequence[Status]) -> Status:
    """What callers use, as in a stack of one of each: ready while one of those behind it is."""
    address = stack.env[service.address]
    names = {instance.name for instance in of(service.name)}
    ready = any(status.ready for status in instances if status.name in names)
    return Status(f"any {service.name}", None, ready, address, f"http://{address}/" if service.is_http else "")


def _instance(stack: HaStack, instance: Instance) -> Status:
    ports = stack.servers.ports
    page = "" if instance.service.is_http else f"http://{LOOPBACK}:{ports[instance.metrics_port]}/metrics"
    address = f"{LOOPBACK}:{ports[instance.port]}"
    return Status(instance.name, stack.pid(instance.name), stack.is_serving(instance.name), address, page)


def _servers(stack: HaStack) -> list[Status]:
    servers, pid = stack.servers, stack.pid
    ports, roles = servers.ports, patroni.roles(servers.databases)
    found = []
    for name in BALANCERS:
        address = f"{LOOPBACK}:{ports[name]}"
        found.append(Status(name, pid(name), is_alive(ports[name]), address, f"http://{address}/"))
    parted = brokers.apart(servers.brokers)
    for node in servers.brokers:
        name = node.process.name
        told = f"{name} (apart)" if name == parted else name
        found.append(Status(told, pid(name), _is_broker(node), f"{LOOPBACK}:{ports[name]}", node.page))
    for name, database in servers.databases.items():
        told = f"{name} ({roles[name]})" if name in roles else name
        found.append(Status(told, pid(name), name in roles, f"{LOOPBACK}:{ports[name]}", f"{database.page}/cluster"))
    ready = {name: _is_etcd(servers, name) for name in ETCDS} | {EPMD: accepts(ports[EPMD])}
    return found + [Status(name, pid(name), ready[name], f"{LOOPBACK}:{ports[name]}", "") for name in ready]


def _is_broker(node: rabbitmq.RabbitMQ) -> bool:
    try:
        node.check(node.url)
    except StackError:
        return False
    return True


def _is_etcd(servers: Servers, name: str) -> bool:
    node = Etcd(servers.process(name), servers.run_dir, servers.ports)
    try:
        node.check(node.url)
    except StackError:
        return False
    return True
