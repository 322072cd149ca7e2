"""The stack of several of everything: two sides of services, on servers that stand in for each other."""

import shutil
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

import grpc

from chassis import channels, healthcheck
from chassis.tls import Tls
from deploy import certificates, environment, facts
from deploy.broker import furnish
from deploy.errors import StackError
from deploy.facts import External
from deploy.ha import brokers, patroni
from deploy.ha.servers import SECRETS, Servers
from deploy.ha.table import (
    BALANCERS,
    BROKERS,
    CALLED,
    DOORS,
    INSTANCES,
    NAMES,
    SERVERS,
    SIDES,
    door,
    on_side,
    ports,
)
from deploy.issuer import OPERATOR_TOKEN, Issuer
from deploy.lock import locked
from deploy.ports import Ports, becomes_free
from deploy.process import Process
from deploy.services import FRONTEND, LOOPBACK, OPERATOR, PROCESSES, SHARDS_DEFAULT, certificate_files
from deploy.stack import GATEWAY_PORT_VARIABLE, HTTP_PORT_VARIABLE, Stack, say_nothing

# The line of stack.env that says that it is of this kind.
KIND: Final = "STACK_KIND"
HA: Final = "ha"
_BY_NAME: Final = MappingProxyType({instance.name: instance for instance in INSTANCES})
# What both sides have: who they are, and who is let in.
_SHARED: Final = ("secrets.env", "issuer", "tls")


def is_of_several(env: Mapping[str, str]) -> bool:
    """Whether the lines of a stack.env are those of such a stack."""
    return env.get(KIND) == HA


class HaStack:
    """Two of each service, on servers of which any one may die; its parts are the NAMES of `deploy.ha.table`.

    `settings` and `variables` are those of `Stack`, by service: both of its processes get them.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        gateway_port: int = 0,
        http_port: int = 0,
        http_port_preferred: int | None = None,
        settings: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        variables: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        shards: int = SHARDS_DEFAULT,
        say: Callable[[str], None] = say_nothing,
    ) -> None:
        self.run_dir = run_dir.resolve()
        self._fixed_ports = {door("gateway"): gateway_port, door(FRONTEND.name): http_port}
        self._preferred_ports = {door(FRONTEND.name): http_port_preferred} if http_port_preferred else {}
        self._settings = settings
        self._variables = variables
        self._shards = shards
        self._say = say

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def env(self) -> dict[str, str]:
        """The lines of `stack.env`; empty before the first `up`."""
        return environment.read(self.run_dir / "stack.env")

    @property
    def issuer(self) -> Issuer:
        """Who signs the tokens that the gateways accept."""
        return Issuer(self.run_dir / "issuer")

    @property
    def operator_token(self) -> str:
        """A token that may do everything."""
        return self.env[OPERATOR_TOKEN]

    @property
    def tls(self) -> Tls:
        """With which people and their tools come to the services within. Raises UnusableCertificateError."""
        return Tls(*certificate_files(self.run_dir / "tls", OPERATOR))

    @property
    def servers(self) -> Servers:
        """As the last `up` started them."""
        return self._servers(Ports(self.run_dir).known)

    def channel(self, name: str, *options: tuple[str, int | str]) -> grpc.aio.Channel:
        """A channel to the address of a service, whichever of the two answers; to be made in the loop that uses it."""
        service = next(service for service in PROCESSES if service.name == name)
        tls = None if service.is_public else self.tls
        return channels.dial(self.env[service.address], ("grpc.enable_http_proxy", 0), *options, tls=tls, peer=name)

    def pid(self, name: str) -> int | None:
        """The pid of a part, None if it does not run."""
        return self._process(name).pid

    def log(self, name: str) -> Path:
        """The file to which a part writes."""
        return self._process(name).log

    def address(self, name: str) -> str:
        """That of one process of a service, with no balancer in between."""
        instance = _BY_NAME[name]
        return self._side(instance.side).address(instance.service.name)

    def is_serving(self, name: str, timeout_s: float = healthcheck.TIMEOUT_S) -> bool:
        """Whether this very process of a service says SERVING; False too if it does not answer in time."""
        side = self._side(_BY_NAME[name].side)
        return bool(side.env) and side.is_serving(_BY_NAME[name].service.name, timeout_s)

    def kill(self, name: str) -> None:
        """kill -9, and waits until it is gone. `up` brings it back."""
        if name in SERVERS:
            self.servers.kill(name)
        else:
            self._side(_BY_NAME[name].side).kill(_BY_NAME[name].service.name)

    def up(self, names: Collection[str] = NAMES) -> None:
        """Starts those of the named parts that do not run, and waits until all are ready. Raises StackError."""
        with locked(self.run_dir, self._say):
            chosen = self._choose_ports()
            servers = self._servers(chosen)
            known = self._facts(chosen, servers.secrets)
            certificates.prepare(self.run_dir / "tls", say=self._say)
            environment.write(self.run_dir / "stack.env", known)
            servers.start([name for name in names if name in SERVERS])
            if set(names) & set(BROKERS):
                self._furnish(servers, known)
            for side in SIDES:
                own = [instance.service.name for instance in on_side(side) if instance.name in names]
                if own:
                    self._side(side, chosen, known).up(own)
            running = [node for node in servers.brokers if node.process.pid is not None]
            if set(names) & set(BROKERS) and not all(node.wait_until_queues_are_on_disk() for node in running):
                self._say("brokers have not written all queues to disk yet; to kill one now could cost some of them")

    def down(self, names: Collection[str] = NAMES) -> None:
        """Stops the named parts, those that depend on others first, and keeps their data."""
        with locked(self.run_dir, self._say):
            if not any(self._runs(name) for name in names):
                self._say("nothing runs")
                return
            self._stop_services(names)
            self.servers.stop([name for name in names if name in SERVERS])

    def clean(self) -> None:
        """Stops everything and removes the run directory, and the data wherever it lies."""
        # A directory without this was not made by us.
        if not (self.run_dir / "state").is_dir():
            return
        with locked(self.run_dir, self._say):
            self._stop_services(NAMES)
            for name in reversed(SERVERS):
                # Their good order takes seconds, for data that is thrown away here.
                self.servers.kill(name)
            patroni.remove_data(self.run_dir)
        shutil.rmtree(self.run_dir)

    def _runs(self, name: str) -> bool:
        """Whether anything of a part does, and keeps its ports."""
        return self.servers.runs(name) if name in SERVERS else self.pid(name) is not None

    def _process(self, name: str) -> Process:
        if name in SERVERS:
            return Process(name, self.run_dir)
        return Process(_BY_NAME[name].service.name, self.run_dir / _BY_NAME[name].side)

    def _stop_services(self, names: Collection[str]) -> None:
        for side in reversed(SIDES):
            own = [instance for instance in on_side(side) if instance.name in names]
            if any(self.pid(instance.name) for instance in own):
                self._side(side).down([instance.service.name for instance in own])

    def _choose_ports(self) -> dict[str, int]:
        """A port for each name of the table. Raises StackError where one that was asked for is taken."""
        fixed = {name: port for name, port in self._fixed_ports.items() if port}
        running = {name for name in NAMES if self._runs(name)}
        if running & set(BALANCERS):
            # They share their doors.
            running.update(BALANCERS)
        else:
            self._check_doors(fixed)
        owners = ports()
        held = [port for port, owner in owners.items() if owner in running]
        wanted = [port for port in owners if port not in fixed]
        return Ports(self.run_dir).settle(wanted, held, self._preferred_ports) | fixed

    def _check_doors(self, fixed: Mapping[str, int]) -> None:
        for name, port in fixed.items():
            if not becomes_free(port):
                variable = HTTP_PORT_VARIABLE if name == door(FRONTEND.name) else GATEWAY_PORT_VARIABLE
                raise StackError(
                    f"port {port}, at which callers should come in, is taken by another program: stop that, "
                    f"or choose another port, as in: {variable}=0 make up-ha"
                )

    def _servers(self, chosen: Mapping[str, int]) -> Servers:
        secrets = environment.passwords(self.run_dir / "secrets.env")
        return Servers(
            self.run_dir, chosen, secrets | environment.passwords(self.run_dir / "servers.env", SECRETS), self._say
        )

    def _facts(self, chosen: Mapping[str, int], secrets: Mapping[str, str]) -> dict[str, str]:
        """What stack.env says: the doors where there are any, else side a; and each process by its own name."""
        at = {name: chosen[door(name)] for name in DOORS}
        for instance in on_side(SIDES[0]):
            at.setdefault(instance.service.name, chosen[instance.port])
            at[f"{instance.service.name}_metrics"] = chosen[instance.metrics_port]
        at["rabbitmq_metrics"] = chosen[f"{BROKERS[0]}_metrics"]
        known = facts.gather(self.run_dir / SIDES[0], at, secrets, External(), shards=self._shards)
        known |= own_addresses(chosen) | {"TLS_DIR": str(self.run_dir / "tls"), KIND: HA}
        self.issuer.prepare()
        return known | self.issuer.facts(self.env)

    def _furnish(self, servers: Servers, known: Mapping[str, str]) -> None:
        furnish(known["RABBITMQ_MANAGEMENT_URL"], known["AMQP_URL"], servers.secrets, shards=self._shards)
        running = [node for node in servers.brokers if node.process.pid is not None]
        if brokers.short_of_members(brokers.queues_by_any(running)):
            for node in running:
                brokers.grow(node)
        if short := brokers.short_of_members(brokers.queues_by_any(running)):
            self._say(f"not on every broker yet: {', '.join(short)}; make up-ha once all three run")

    def _side(
        self, side: str, chosen: Mapping[str, int] | None = None, known: Mapping[str, str] = MappingProxyType({})
    ) -> Stack:
        """One side, which is a stack of services on servers of somebody else; with ports and facts, to be started."""
        run_dir, say = self.run_dir / side, partial(self._say_of, side)
        if chosen is None:
            return Stack(run_dir, say=say)
        run_dir.mkdir(exist_ok=True)
        for name in _SHARED:
            if not (run_dir / name).is_symlink():
                (run_dir / name).symlink_to(Path("..") / name)
        own = {}
        for instance in on_side(side):
            own[instance.service.name] = chosen[instance.port]
            own[f"{instance.service.name}_metrics"] = chosen[instance.metrics_port]
        return Stack(
            run_dir,
            ports=own,
            settings={service.name: self._settings_of(service.name, known) for service in PROCESSES},
            variables=self._variables,
            external=External(known["DATABASE_URL"], known["AMQP_URL"], known["RABBITMQ_MANAGEMENT_URL"]),
            shards=self._shards,
            say=say,
        )

    def _say_of(self, side: str, line: str) -> None:
        self._say(f"side {side}: {line}")

    def _settings_of(self, name: str, known: Mapping[str, str]) -> dict[str, str]:
        """Whom it calls, it calls at the one address."""
        service = next(service for service in PROCESSES if service.name == name)
        called = {
            setting: known[fact]
            for setting, fact in service.settings.items()
            if setting.endswith("_ADDRESS") and setting.removesuffix("_ADDRESS").lower() in (*CALLED, "provider")
        }
        return called | dict(self._settings.get(name, {}))


def own_addresses(chosen: Mapping[str, int]) -> dict[str, str]:
    """Where each process of the services is by itself, `GATEWAY_A_ADDRESS`; where each one's numbers are, the brokers'
    too: `GATEWAY_A_METRICS_ADDRESS`, `BROKER_1_METRICS_ADDRESS`."""
    found = {f"{_variable(broker)}_METRICS_ADDRESS": f"{LOOPBACK}:{chosen[f'{broker}_metrics']}" for broker in BROKERS}
    for instance in INSTANCES:
        if instance.name != instance.service.name:
            name = _variable(instance.name)
            found[f"{name}_ADDRESS"] = f"{LOOPBACK}:{chosen[instance.port]}"
            found[f"{name}_METRICS_ADDRESS"] = f"{LOOPBACK}:{chosen[instance.metrics_port]}"
    return found


def _variable(name: str) -> str:
    """A part's name as the beginning of a variable's."""
    return name.upper().replace("-", "_")
