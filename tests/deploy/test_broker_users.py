"""Each user of the broker does what its service does and nothing else; the definitions make an empty broker ours."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError
from aiormq.abc import DeliveredMessage
from yarl import URL

from chassis.topology import declare
from contract import keys
from contract.broker import USERS, definitions, name_of
from deploy import environment
from deploy.broker import ask, filled, furnish, user_url
from deploy.services import BROKER_USERS, BrokerUser
from deploy.stack import Stack
from tests.e2e.house import SERVICES, furnished
from tests.gateway.vhosts import vhost

DEFINITIONS = Path(__file__).resolve().parents[2] / "deploy" / "rabbitmq.definitions.json"
WORK_QUEUES = (*keys.RESERVATIONS_QUEUES, *keys.PAYMENTS_QUEUES)
ALL_KEYS = sorted({key for said in keys.SAID_BY.values() for key in said})
OWN = f"gateway.replies.{uuid4().hex}"

each_user = pytest.mark.parametrize("user", BROKER_USERS, ids=lambda user: user.service)


@pytest.fixture(scope="module")
def place(own_servers: Stack) -> Iterator[str]:
    """The administrator's URL of a furnished virtual host."""
    with vhost(own_servers, "furnished") as url:
        furnish(own_servers.env["RABBITMQ_MANAGEMENT_URL"], url, passwords_of(own_servers))
        yield url


def passwords_of(servers: Stack) -> dict[str, str]:
    return environment.passwords(servers.run_dir / "secrets.env")


@pytest.fixture
def as_user(own_servers: Stack, place: str) -> Callable[[str], str]:
    """The URL of a user, by the name of its service."""
    users = {user.service: user for user in BROKER_USERS}
    passwords = passwords_of(own_servers)
    return lambda service: user_url(place, users[service], passwords[users[service].password_variable])


@asynccontextmanager
async def channel_of(url: str) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(url, timeout=5)
    async with connection:
        yield await connection.channel(on_return_raises=True)


async def refused(url: str, attempt: Callable[[AbstractChannel], Awaitable[object]]) -> bool:
    """Whether the broker says that this user may not."""
    async with channel_of(url) as channel:
        try:
            await attempt(channel)
        except DeliveryError:
            return False
        except CONNECTION_EXCEPTIONS as error:
            if "ACCESS_REFUSED" not in str(error):
                raise
            return True
    return False


async def say(channel: AbstractChannel, exchange: str, key: str) -> None:
    """Published where nobody is bound it comes back, which is an answer, too."""
    underlay = await channel.get_underlay_channel()
    await underlay.basic_publish(b"", exchange=exchange, routing_key=key, mandatory=True, timeout=5)


@each_user
async def test_a_user_says_the_keys_of_its_service_and_no_others(
    as_user: Callable[[str], str], user: BrokerUser
) -> None:
    wrong = []
    for key in (*ALL_KEYS, "ticket", "ticket.sold.again", "anything.else"):
        may = key in USERS[user.service].says
        if await refused(as_user(user.service), partial(say, exchange=keys.EXCHANGE, key=key)) is may:
            wrong.append(key)
    assert wrong == []


@each_user
async def test_a_user_reads_the_queues_of_its_service_and_no_others(
    as_user: Callable[[str], str], user: BrokerUser
) -> None:
    wrong = []
    for name, owner in ((name, queue.service) for queue in WORK_QUEUES for name in queue.queues(1)):
        may = owner == user.service

        async def take(channel: AbstractChannel, name: str = name) -> None:
            underlay = await channel.get_underlay_channel()
            # One at a time is served from a shard, and only by consuming.
            await underlay.basic_consume(name, ignored, timeout=5)

        async def delete(channel: AbstractChannel, name: str = name) -> None:
            underlay = await channel.get_underlay_channel()
            await underlay.queue_delete(name, if_empty=True, if_unused=True, timeout=5)

        if await refused(as_user(user.service), take) is may:
            wrong.append(f"read {name}")
        if not may and not await refused(as_user(user.service), delete):
            wrong.append(f"delete {name}")
    assert wrong == []


@each_user
async def test_only_its_owner_makes_a_work_queue_of_any_number_of_shards(own_servers: Stack, user: BrokerUser) -> None:
    """One and several, to and fro: queues, the exchange that chooses among them, and what is bound to what."""
    with vhost(own_servers, "shards") as url:
        page, passwords = own_servers.env["RABBITMQ_MANAGEMENT_URL"], passwords_of(own_servers)
        furnish(page, url, passwords, shards=2)
        own = user_url(url, user, passwords[user.password_variable])
        wrong = []
        for queue in WORK_QUEUES:
            for shards in (3, 1, 2):
                make = partial(declare, exchange=keys.EXCHANGE, queues=[queue], shards=shards)
                if await refused(own, make) is (queue.service == user.service):
                    wrong.append(f"{queue.name} in {shards} shards")

            async def no_shard(channel: AbstractChannel, name: str = f"{queue.name}.first") -> None:
                await channel.declare_queue(name, exclusive=True)

            if not await refused(own, no_shard):
                wrong.append(f"{queue.name}.first")
        assert wrong == []


async def ignored(_: DeliveredMessage) -> None:
    """Given back when the channel closes."""


@pytest.mark.parametrize("service", ["gateway", "scheduler"])
async def test_who_only_asks_or_tells_reaches_no_queue_past_the_exchange(
    as_user: Callable[[str], str], service: str
) -> None:
    assert await refused(as_user(service), lambda channel: say(channel, "", "payments.refunds"))


async def test_a_gateway_has_queues_of_its_own_and_hears_only_what_everybody_may(as_user: Callable[[str], str]) -> None:
    async def bound_to(channel: AbstractChannel, key: str) -> None:
        queue = await channel.declare_queue(OWN, exclusive=True, auto_delete=True)
        await queue.bind(keys.EXCHANGE, key)

    async def declared(channel: AbstractChannel, name: str) -> None:
        await channel.declare_queue(name, exclusive=True)

    url = as_user("gateway")
    assert [key for key in keys.WATCHED if await refused(url, partial(bound_to, key=key))] == []
    for key in ("#", keys.PAYMENT_REQUESTED, keys.PAYMENT_APPROVED):
        assert await refused(url, partial(bound_to, key=key)), key
    for name in ("gateway.replies.mine", "spy", "payments.charges"):
        assert await refused(url, partial(declared, name=name)), name
    assert await refused(url, lambda channel: channel.declare_exchange(keys.EXCHANGE, "topic", durable=True))


async def test_users_are_no_administrators_and_see_no_management_page(own_servers: Stack, place: str) -> None:
    users = json.loads(ask(own_servers.env["RABBITMQ_MANAGEMENT_URL"], place, "GET", "/api/users"))
    tags = {user["name"]: user["tags"] for user in users}
    assert {tags[name_of(service)] == [] for service in USERS} == {True}


def test_the_committed_definitions_are_what_the_contract_says() -> None:
    """Renewed by: python -m contract.broker > deploy/rabbitmq.definitions.json"""
    assert json.loads(DEFINITIONS.read_text()) == definitions()


def test_they_hold_no_passwords_and_a_user_without_one_cannot_log_in() -> None:
    assert {user["password_hash"] for user in json.loads(DEFINITIONS.read_text())["users"]} == {""}
    written = json.dumps(filled({user.password_variable: "known-secret" for user in BROKER_USERS}))
    assert "known-secret" not in written


async def test_an_empty_broker_takes_them_and_a_command_goes_through(tmp_path_factory: pytest.TempPathFactory) -> None:
    """As after the loss of its disk: from the definitions alone, before any service has declared anything."""
    servers = Stack(tmp_path_factory.mktemp("empty"))
    try:
        servers.up(("postgres", "rabbitmq"))
        page, url = servers.env["RABBITMQ_MANAGEMENT_URL"], servers.env["AMQP_URL"]
        for thing in ("queues", "users"):
            for found in json.loads(ask(page, url, "GET", f"/api/{thing}")):
                if found["name"] != "ticketrush":
                    path = "queues/%2F" if thing == "queues" else thing
                    ask(page, url, "DELETE", f"/api/{path}/{found['name']}")
        ask(page, url, "DELETE", f"/api/exchanges/%2F/{keys.EXCHANGE}")
        ask(page, url, "POST", "/api/definitions", json.dumps(filled(passwords_of(servers))).encode())

        gateway = servers.env["GATEWAY_AMQP_URL"]
        async with channel_of(gateway) as channel:
            await say(channel, keys.EXCHANGE, keys.PAYMENT_REQUESTED)
        async with channel_of(url) as channel:
            queue = await channel.get_queue(keys.PAYMENT_CHARGES.shard(0))
            arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            await queue.consume(arrived.put)
            await (await asyncio.wait_for(arrived.get(), timeout=5)).ack()
        assert URL(gateway).user == "ticketrush_gateway"
        async with furnished(servers, SERVICES) as house:
            await house.office.buy(await house.office.put_on_sale(), "ada")
    finally:
        servers.clean()
