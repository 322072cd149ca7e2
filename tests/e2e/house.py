"""The product at work: every process started as in production, and the means to look into it and to harm it."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import urlopen

import grpc
import psycopg
from aio_pika.abc import AbstractChannel
from prometheus_client.parser import text_string_to_metric_families

from chassis.bearer import bearing
from chassis.channels import dial
from chassis.tls import Tls
from deploy import environment
from deploy.facts import External
from deploy.services import certificate_files
from deploy.stack import Stack
from tests.chassis.broker import channel_to
from tests.e2e import ledgers
from tests.e2e.office import Office, eventually
from ticketrush.provider.v1 import provider_pb2 as provider
from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

SERVICES: Final = ("provider", "reservations", "payments", "scheduler", "gateway")
STOP_WITHIN_S: Final = 10.0
METRICS_TIMEOUT_S: Final = 5
STATEMENT_PAGE: Final = 1_000


@dataclass
class House:
    """One set of services. `office` is their gateway; `refused_refunds` are payments that nobody will take back.

    Who harms it holds `alone` meanwhile.
    """

    stack: Stack
    channel: grpc.aio.Channel
    provider_channel: grpc.aio.Channel
    refused_refunds: set[str] = field(default_factory=set)
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.office = Office(self.channel)
        self.provider: PaymentProviderServiceAsyncStub = PaymentProviderServiceStub(self.provider_channel)

    @asynccontextmanager
    async def crowd(self) -> AsyncIterator[Office]:
        """Callers whose calls go by a connection of their own."""
        async with connected(self.stack.address("gateway"), self.stack.operator_token) as channel:
            yield Office(channel)

    async def up(self, *names: str) -> None:
        """Brings parts up and waits until they serve."""
        await asyncio.to_thread(self.stack.up, names)

    async def kill(self, *names: str) -> None:
        """kill -9."""
        for name in names:
            await asyncio.to_thread(self.stack.kill, name)

    async def terminate(self, name: str) -> None:
        """SIGTERM; fails if the process is still there after STOP_WITHIN_S."""
        self._signal(name, signal.SIGTERM)

        async def gone() -> bool:
            return self.stack.pid(name) is None

        await eventually(gone, lambda: f"{name} did not stop:\n{self.log_tail(name)}", deadline_s=STOP_WITHIN_S)

    def freeze(self, name: str) -> None:
        """Stops a process in the middle of whatever it does, until `thaw`."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    async def serves(self, name: str) -> bool:
        """What its health says."""
        return await asyncio.to_thread(self.stack.is_serving, name)

    async def stops_serving(self, name: str) -> None:
        """Returns when its health says so."""

        async def says_so() -> bool:
            return not await self.serves(name)

        await eventually(says_so, lambda: f"{name} still serves")

    def log_tail(self, name: str) -> str:
        return "\n".join(self.stack.log(name).read_text().splitlines()[-30:])

    async def figure(self, name: str, metric: str, **labels: str) -> float:
        """A number from the service's /metrics page: the sum over all series with these labels, 0 without any."""
        url = f"http://{self.stack.env[f'{name.upper()}_METRICS_ADDRESS']}/metrics"
        page = await asyncio.to_thread(_read, url)
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        return sum(s.value for s in samples if s.name == metric and labels.items() <= s.labels.items())

    async def statement(self) -> dict[str, provider.Charge]:
        """The card processor's own statement, by payment."""
        charges: dict[str, provider.Charge] = {}
        token = ""
        while True:
            request = provider.ListChargesRequest(page_size=STATEMENT_PAGE, page_token=token)
            page = await self.provider.ListCharges(request)
            charges |= {charge.payment_id: charge for charge in page.charges}
            token = page.next_page_token
            if not token:
                return charges

    @asynccontextmanager
    async def database(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """As its superuser; each statement by itself."""
        async with await psycopg.AsyncConnection.connect(self.stack.env["DATABASE_URL"], autocommit=True) as conn:
            yield conn

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[AbstractChannel]:
        async with channel_to(self.stack.env["AMQP_URL"]) as channel:
            yield channel

    async def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        async with self.database() as conn:
            cursor = await conn.execute(sql.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def settled(self) -> None:
        """Returns when nothing is under way any more."""
        async with self.database() as conn:
            left: list[str] = []

            async def nothing_is_left() -> bool:
                await ledgers.prepare(conn, (), self.refused_refunds)
                left[:] = await ledgers.found(conn, ledgers.UNDER_WAY)
                return not left

            await eventually(nothing_is_left, lambda: "still under way:\n" + "\n".join(left))

    async def balances(self) -> None:
        """Fails unless tickets, reservations, payments, ledger and the processor's statement agree to the cent."""
        await self.settled()
        statement = await self.statement()
        async with self.database() as conn:
            await ledgers.prepare(conn, list(statement.values()), self.refused_refunds)
            problems = await ledgers.found(conn, ledgers.INVARIANTS)
        assert not problems, "\n".join(problems)

    def _signal(self, name: str, number: signal.Signals) -> None:
        pid = self.stack.pid(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, number)


@asynccontextmanager
async def furnished(stack: Stack, names: Collection[str]) -> AsyncIterator[House]:
    """The stack with the named parts up; down at the end."""
    try:
        await asyncio.to_thread(stack.up, names)
        async with (
            connected(stack.address("gateway"), stack.operator_token) as channel,
            within(stack, "provider") as provider_channel,
        ):
            yield House(stack, channel, provider_channel)
    finally:
        await asyncio.to_thread(remove, stack)


def remove(stack: Stack) -> None:
    """Ends and removes it all. What need not survive is killed: how services stop has a test of its own."""
    for name in (*SERVICES, "rabbitmq"):
        stack.kill(name)
    stack.clean()


def beside(
    servers: Stack,
    run_dir: Path,
    *,
    database_url: str,
    amqp_url: str,
    settings: Mapping[str, Mapping[str, str]] | None = None,
) -> Stack:
    """Services on somebody else's servers. Roles and users are the whole server's, so their passwords are shared.

    So is the CA: those of two such stacks may call each other.
    """
    run_dir.mkdir(exist_ok=True)
    shutil.copytree(servers.run_dir / "tls", run_dir / "tls")
    environment.write(run_dir / "secrets.env", environment.passwords(servers.run_dir / "secrets.env"))
    external = External(database_url, amqp_url, servers.env["RABBITMQ_MANAGEMENT_URL"])
    return Stack(run_dir, settings=settings or {}, external=external)


def shared_addresses(stack: Stack, services: Sequence[str]) -> dict[str, str]:
    """Settings with which another process finds these services."""
    return {f"{name.upper()}_ADDRESS": stack.address(name) for name in services}


# What callers are advised to do, only that here an outage has to be seen.
_RETRY_POLICY: Final = (
    (Path(__file__).parents[2] / "docs/examples/retry_policy.json").read_text().replace('"UNAVAILABLE", ', "")
)
# A restarted process is found again at once; a proxy for the outside world knows none of ours.
_OPTIONS: Final = (
    ("grpc.service_config", _RETRY_POLICY),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
    # A connection carries 1,000 calls at a time. Who needs more makes another channel, which must not share it.
    ("grpc.use_local_subchannel_pool", 1),
)


def connected(address: str, token: str = "") -> grpc.aio.Channel:
    """A channel to a gateway, whose calls bear the token if there is one."""
    return bearing(grpc.aio.insecure_channel(address, options=_OPTIONS), token)


def within(stack: Stack, name: str) -> grpc.aio.Channel:
    """A channel to any service of a stack, as its operator."""
    return stack.channel(name, *_OPTIONS)


def between(stack: Stack, caller: str, name: str) -> grpc.aio.Channel:
    """The channel that one service of a stack has to another."""
    tls = Tls(*certificate_files(stack.run_dir / "tls", caller))
    return dial(stack.address(name), *_OPTIONS, tls=tls, peer=name)


def _read(url: str) -> str:
    with urlopen(url, timeout=METRICS_TIMEOUT_S) as page:  # noqa: S310 # our own process on loopback
        return str(page.read().decode())
