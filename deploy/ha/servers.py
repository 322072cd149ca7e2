"""The servers of the stack of several: in which order they start and stop, and when they are ready."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import psycopg

from deploy import certificates, postgres
from deploy.debian import install
from deploy.environment import ADMINISTRATOR_PASSWORD, BROKER_PASSWORD
from deploy.errors import StackError
from deploy.ha import brokers, etcd, patroni
from deploy.ha.balancer import Balancer
from deploy.ha.etcd import Etcd
from deploy.ha.patroni import Patroni
from deploy.ha.table import BALANCERS, BROKERS, DATABASES, EPMD, ETCDS, SERVERS, door
from deploy.process import Process, dead, wait_until, wait_with_others
from deploy.rabbitmq import STOP_DEADLINE_S, RabbitMQ, start_epmd
from deploy.servers import Server, bring_up

# Drawn once, beside the passwords of every stack.
SECRETS: Final = (patroni.REPLICATOR_PASSWORD, patroni.PAGE_PASSWORD, brokers.COOKIE)
READY_DEADLINE_S: Final = 90.0
_STOP_S: Final = 10.0
_STOP_DEADLINES_S: Final = MappingProxyType(
    dict.fromkeys(BROKERS, STOP_DEADLINE_S) | dict.fromkeys(DATABASES, patroni.STOP_DEADLINE_S)
)
_READY: Final = frozenset({"leader", "sync_standby"})


@dataclass(frozen=True)
class Servers:
    """All of them under one run directory. `secrets` has the passwords of every stack, and SECRETS."""

    run_dir: Path
    ports: Mapping[str, int]
    secrets: Mapping[str, str]
    say: Callable[[str], None]

    def process(self, name: str) -> Process:
        """The process of one of them."""
        return Process(name, self.run_dir)

    @property
    def brokers(self) -> list[RabbitMQ]:
        processes = {name: self.process(name) for name in (EPMD, *BROKERS)}
        secrets = self.secrets
        return brokers.nodes(processes, self.run_dir, self.ports, secrets[BROKER_PASSWORD], secrets[brokers.COOKIE])

    @property
    def databases(self) -> dict[str, Patroni]:
        return {name: Patroni(self.process(name), self.run_dir, self.ports, self.secrets) for name in DATABASES}

    def start(self, names: Collection[str]) -> None:
        """Starts those of the named that do not run, and waits until they are ready. Raises StackError."""
        etcds = [Etcd(self.process(name), self.run_dir, self.ports) for name in ETCDS if name in names]
        balancers = [Balancer(self.process(name), self.run_dir, self.ports) for name in BALANCERS if name in names]
        nodes = [node for node in self.brokers if node.process.name in names]
        databases = [database for name, database in self.databases.items() if name in names]
        self._install([*etcds, *balancers, *nodes, *databases])
        certificates.prepare(etcd.tls_folder(self.run_dir), etcd.IDENTITIES)
        for balancer in balancers:
            if balancer.process.pid is not None and balancer.process.fingerprint != balancer.fingerprint:
                self.say(f"{balancer.process.name} knows other ports; starting it again")
                self.stop([balancer.process.name])
        if EPMD in names or nodes:
            home = self.run_dir / EPMD
            home.mkdir(exist_ok=True)
            start_epmd(self.process(EPMD), home, self.ports[EPMD])
        if nodes and brokers.is_new(self.run_dir, nodes[0].process.name):
            # Who comes first is joined by the others; at once, each might take itself for the first.
            self._bring_up(nodes[:1])
        self._bring_up([*etcds, *nodes, *balancers])
        if nodes:
            self._unite()
        if nodes and not brokers.are_together(running := [node for node in self.brokers if node.process.pid]):
            raise StackError(f"the brokers are no cluster after {brokers.TOGETHER_DEADLINE_S:.0f} s: {running[0].page}")
        self._bring_up(databases)
        if databases:
            self._await_databases([database.process.name for database in databases])

    def stop(self, names: Collection[str]) -> None:
        """Stops those of the named that run, whoever is needed by others last."""
        running = {name for name in SERVERS if name in names and self.runs(name)}
        found = patroni.roles(self.databases) if running & set(DATABASES) else {}
        # The standby first: the primary would hand over to it, for nothing.
        databases = sorted(DATABASES, key=lambda name: found.get(name) == "leader")
        for name in (*BALANCERS, *databases, *reversed(BROKERS), EPMD, *ETCDS):
            if name in running:
                self._stop(name)

    def runs(self, name: str) -> bool:
        """Whether anything of it does: a PostgreSQL outlives its Patroni."""
        if self.process(name).pid is not None:
            return True
        return name in DATABASES and patroni.postmaster(self.run_dir, name) is not None

    def _stop(self, name: str) -> None:
        deadline_s = _STOP_DEADLINES_S.get(name, _STOP_S)
        in_time = self.process(name).pid is None or self.process(name).stop(deadline_s)
        if name in DATABASES:
            patroni.stop(self.run_dir, name)
        self.say(f"{name} stopped" if in_time else f"{name} did not stop within {deadline_s:.0f} s and was killed")

    def kill(self, name: str) -> None:
        """kill -9, and waits until it is gone: of a database its Patroni first, which would start PostgreSQL again."""
        self.process(name).kill()
        if name in DATABASES:
            patroni.kill(self.run_dir, name)

    def _bring_up(self, servers: Collection[Server]) -> None:
        facts = {server.fact: server.url for server in servers}
        bring_up(list(servers), facts, self.run_dir / "apt.log", stop=lambda name: self.stop([name]), say=self.say)

    def _unite(self) -> None:
        """Starts brokers again that the others are parted from, one after the other."""
        running = [node for node in self.brokers if node.process.pid is not None]
        for _ in running:
            name = brokers.apart(running)
            if not name:
                return
            self.say(f"{name} was away for so long that it knows other things than the rest; starting it again")
            self.stop([name])
            self._bring_up([node for node in running if node.process.name == name])
            wait_until(lambda parted=name: brokers.apart(running) != parted, brokers.TOLD_WITHIN_S)  # type: ignore[misc]

    def _install(self, servers: Collection[Server]) -> None:
        """All that is missing, at once."""
        missing = [server.package for server in servers if not server.is_installed()]
        if patroni.Patroni.package in missing:
            missing += patroni.NEEDS
        if missing:
            install(list(dict.fromkeys(missing)), self.run_dir / "apt.log", self.say)

    def _await_databases(self, names: Collection[str]) -> None:
        """Until each is the primary or a standby that may take over, and the door leads to the primary."""
        databases = self.databases
        stock = postgres.url(self.ports[door("postgres")], self.secrets[ADMINISTRATOR_PASSWORD], "postgres")

        def are_ready() -> bool:
            found = patroni.roles(databases)
            return all(found.get(name) in _READY for name in names) and _has_database(stock)

        pair = [database.process for database in databases.values()]
        if not wait_with_others(are_ready, READY_DEADLINE_S, pair):
            if missed := dead(pair):
                # Only the one that led last may lead again.
                raise StackError(
                    f"{' and '.join(names)} cannot be ready without {' and '.join(missed)}; start all with: make up-ha"
                )
            logs = " ".join(str(databases[name].process.log) for name in names)
            raise StackError(
                f"{' and '.join(names)} are not primary and standby after {READY_DEADLINE_S:.0f} s, but "
                f"{patroni.roles(databases)}; see {logs}"
            )
        next(iter(databases.values())).agree()


def _has_database(stock: str) -> bool:
    """Whether the primary answers, and has our database; made if it is missing."""
    try:
        postgres.make_database(stock)
    except psycopg.Error:
        return False
    return True
