"""A stack of the chaos's own: real processes in a directory of their own, every link between them a proxy."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc
import psycopg

from chaos.proxy import Proxy
from deploy.errors import StackError
from deploy.services import SERVICES, SHARDS_DEFAULT
from deploy.stack import Stack
from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

SERVICE_NAMES: Final = tuple(service.name for service in SERVICES)
SERVERS: Final = ("postgres", "rabbitmq")
CLIENTS: Final = "clients"
# An orchestrator notices and starts again.
RESTART_AFTER_S: Final = 2.0
WATCH_INTERVAL_S: Final = 0.1
# The services that may run twice; the card processor is somebody else's.
TWINS: Final = ("reservations", "payments", "scheduler", "gateway")
_CALLEES: Final = {"AMQP_URL": "rabbitmq", "DATABASE_URL": "postgres"}


def links() -> Iterator[tuple[str, str, str]]:
    """Every link between the parts: caller, callee, and the caller's setting that says where the callee is."""
    yield CLIENTS, "gateway", ""
    for service in SERVICES:
        for setting in service.settings:
            if setting.endswith(("_URL", "_ADDRESS")):
                yield service.name, _CALLEES.get(setting) or setting.removesuffix("_ADDRESS").lower(), setting


class Breakable(Protocol):
    """A stack, of one of each or of several; its parts by the names that it gives them."""

    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def operator_token(self) -> str: ...
    def channel(self, name: str) -> grpc.aio.Channel: ...
    def is_serving(self, name: str, timeout_s: float) -> bool: ...
    def address(self, name: str) -> str: ...
    def pid(self, name: str) -> int | None: ...
    def kill(self, name: str) -> None: ...
    def up(self, names: Collection[str]) -> None: ...
    def down(self, names: Collection[str]) -> None: ...
    def clean(self) -> None: ...


class System:
    """The stack, its links, and an orchestrator that starts again what ended, after RESTART_AFTER_S."""

    # What the orchestrator looks after, in the order of starting.
    servers: Sequence[str] = SERVERS
    services: Sequence[str] = SERVICE_NAMES
    # With a think time of up to 0.5 s some 50 to 100 calls/s: the fault is tested, not the machine.
    buyers: int = 60

    def __init__(self, run_dir: Path, *, shards: int = SHARDS_DEFAULT) -> None:
        self.run_dir = run_dir
        self.shards = shards
        self.links = {(caller, callee): Proxy(f"{caller}-{callee}", "") for caller, callee, _ in links()}
        # Those of which the orchestrator shall leave its hands, and those that it found ended without our doing.
        self.held: set[str] = set()
        self.ended_by_themselves: list[str] = []
        self.restarts = 0
        self._killed: set[str] = set()
        self._settings: dict[str, dict[str, str]] = {}
        # Of services, by name: what `up` starts a service again with when it has changed.
        self.variables: dict[str, dict[str, str]] = {}
        self.stack: Breakable = self._make_stack()
        self.twin: Stack | None = None
        self._channel: grpc.aio.Channel | None = None

    def _make_stack(self) -> "Breakable":
        return Stack(self.run_dir, settings=self._settings, variables=self.variables, shards=self.shards)

    async def parts_of(self, name: str) -> Sequence[str]:
        """The parts of the stack that are a server or a service; the first is the one to break if only one is."""
        return [name]

    @property
    def env(self) -> Mapping[str, str]:
        """Where everything is, without a proxy in between."""
        return self.stack.env

    @property
    def gateway_address(self) -> str:
        """Where clients call."""
        return self.links[CLIENTS, "gateway"].address

    @property
    def provider(self) -> "PaymentProviderServiceAsyncStub":
        """The card processor itself, for its statement."""
        if self._channel is None:
            self._channel = self.stack.channel("provider")
        stub: PaymentProviderServiceAsyncStub = PaymentProviderServiceStub(self._channel)
        return stub

    async def start(self) -> None:
        """Starts it all. Raises StackError."""
        await asyncio.to_thread(self.stack.up, self.servers)
        env = self.env
        addresses = {"rabbitmq": _host_of(env["AMQP_URL"]), "postgres": _host_of(env["DATABASE_URL"])}
        for service in SERVICES:
            addresses[service.name] = env[service.address]
        for caller, callee, _ in links():
            link = self.links[caller, callee]
            link.targets = [addresses[callee]]
            await link.start()
        facts = {service.name: service.settings for service in SERVICES}
        for caller, callee, setting in links():
            if setting:
                direct = env[facts[caller][setting]]
                proxied = direct.replace(addresses[callee], self.links[caller, callee].address)
                self._settings.setdefault(caller, {})[setting] = proxied
        await asyncio.to_thread(self.stack.up, self.services)

    async def stop(self) -> None:
        """Ends and removes it all; how services stop is tested elsewhere, so they are killed."""
        if self._channel is not None:
            await self._channel.close()
        for stack in filter(None, (self.twin, self.stack)):
            for name in self.services:
                await asyncio.to_thread(stack.kill, name)
            await asyncio.to_thread(stack.clean)
        for link in self.links.values():
            await link.stop()
        shutil.rmtree(self.run_dir, ignore_errors=True)

    async def supervise(self) -> None:
        """The orchestrator, until cancelled."""
        missing: dict[str, float] = {}
        while True:
            now = asyncio.get_running_loop().time()
            for name in (*self.servers, *self.services):
                if name in self.held or self.stack.pid(name) is not None:
                    missing.pop(name, None)
                elif name not in missing:
                    missing[name] = now
                    if name not in self._killed:
                        self.ended_by_themselves.append(name)
            for name in [name for name, since in missing.items() if now - since >= RESTART_AFTER_S]:
                await self._restart(name)
                missing.pop(name)
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def _restart(self, name: str) -> None:
        self.restarts += 1
        try:
            await self.up(name)
        except (StackError, psycopg.Error):
            # It goes on trying, as every orchestrator.
            self._killed.add(name)

    async def kill(self, name: str, *, by: signal.Signals = signal.SIGKILL) -> None:
        """Ends the process of a part, and waits until it is gone."""
        self._killed.add(name)
        pid = self.stack.pid(name)
        if pid is not None:
            os.kill(pid, by)
        while self.stack.pid(name) is not None:
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def terminate(self, name: str, *, stack: Breakable | None = None) -> None:
        """SIGTERM, and waits until it is gone."""
        self._killed.add(name)
        await asyncio.to_thread((stack or self.stack).down, [name])

    async def up(self, *names: str, stack: Breakable | None = None) -> None:
        """Starts parts and waits until they serve. Raises StackError, psycopg.Error."""
        await asyncio.to_thread((stack or self.stack).up, names)
        self._killed.difference_update(names)

    async def is_back(self, name: str) -> None:
        """Returns when the orchestrator has started a killed part again; it may not serve yet."""
        while self.stack.pid(name) is None:
            await asyncio.sleep(WATCH_INTERVAL_S)

    def signal(self, name: str, number: signal.Signals) -> None:
        """To a part and, where it is a server, to all its processes."""
        pid = self.stack.pid(name)
        if pid is not None:
            for one in (pid, *descendants(pid)):
                os.kill(one, number)

    @contextmanager
    def hands_off(self, *names: str) -> Iterator[None]:
        """The orchestrator lets these be within the block."""
        self.held.update(names)
        try:
            yield
        finally:
            self.held.difference_update(names)

    async def serves(self, name: str) -> bool:
        """What the service's own health says, asked without a proxy."""
        return await asyncio.to_thread(self.stack.is_serving, name, 1.0)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """As its superuser, without a proxy; each statement by itself."""
        url = self.env["DATABASE_URL"]
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=2) as conn:
            yield conn

    def tell(self, name: str, setting: str, value: str) -> None:
        """A setting of a service, and of its twin, from its next start on."""
        self._settings.setdefault(name, {})[setting] = value

    async def add_twins(self, names: Sequence[str] = TWINS) -> Stack:
        """A second one of each of these services on the same servers, behind the same links. Raises StackError."""
        if not isinstance(self.stack, Stack):
            raise TypeError("of several there are two of each already")
        twin = self.twin = self.stack.twin("twin", {name: self._settings.setdefault(name, {}) for name in names})
        await asyncio.to_thread(twin.up, names)
        for (_, callee), link in self.links.items():
            if callee in names:
                link.targets.append(twin.address(callee))
        return twin

    async def remove_twins(self) -> None:
        """Back to one of each."""
        if self.twin is not None:
            for link in self.links.values():
                del link.targets[1:]
            await asyncio.to_thread(self.twin.clean)
            self.twin = None


def _host_of(url: str) -> str:
    return url.rpartition("@")[2].partition("/")[0]


def descendants(pid: int) -> Sequence[int]:
    """PostgreSQL's backends and the like."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return ()
    return [one for child in children for one in (child, *descendants(child))]
