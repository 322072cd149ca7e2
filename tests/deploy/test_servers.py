"""The private PostgreSQL and RabbitMQ: they come back from kill -9 with their data, and leave nothing behind."""

import asyncio
import json
import os
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import aio_pika
import psycopg
import pytest

from deploy import environment, rabbitmq
from deploy.broker import ask
from deploy.process import Process, wait_until
from deploy.rabbitmq import RabbitMQ
from deploy.services import BROKER_USERS
from deploy.stack import Stack
from tests.deploy.test_stack import processes_of

SERVERS = ("postgres", "rabbitmq")


def test_postgres_comes_back_from_kill_9_with_what_was_committed(own_servers: Stack) -> None:
    url = own_servers.env["DATABASE_URL"]
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE kept (word text)")
        conn.execute("INSERT INTO kept VALUES ('committed')")
    own_servers.kill("postgres")
    own_servers.up(SERVERS)
    assert own_servers.env["DATABASE_URL"] == url
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT word FROM kept").fetchall() == [("committed",)]


def test_postgres_that_is_shutting_down_is_started_again(own_servers: Stack) -> None:
    pid = own_servers.pid("postgres")
    assert pid
    with closing(psycopg.connect(own_servers.env["DATABASE_URL"])) as conn:
        # Smart shutdown: no newcomers, and it waits for us.
        os.kill(pid, signal.SIGTERM)
        assert wait_until(lambda: not answers(own_servers.env["DATABASE_URL"]), 10)
        conn.execute("SELECT 1")
        own_servers.up(("postgres",))
    assert own_servers.pid("postgres") != pid
    assert answers(own_servers.env["DATABASE_URL"])


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_postgres_starts_though_somebody_has_the_pid_of_the_one_killed(own_servers: Stack) -> None:
    own_servers.kill("postgres")
    lock = own_servers.run_dir / "postgres" / "data" / "postmaster.pid"
    _, rest = lock.read_text().split("\n", 1)
    # A process of the same account would stop PostgreSQL for good; as root any other does not, so one is made.
    account = None if os.geteuid() else "postgres"
    with subprocess.Popen(["sleep", "infinity"], cwd="/", user=account) as stranger:
        try:
            lock.write_text(f"{stranger.pid}\n{rest}")
            own_servers.up(SERVERS)
        finally:
            stranger.kill()
    assert own_servers.pid("postgres") is not None


def test_postgres_writes_what_it_commits_to_disk(own_servers: Stack) -> None:
    with psycopg.connect(own_servers.env["DATABASE_URL"]) as conn:
        told = conn.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')").fetchone()
    assert told == ("on", "on")


def test_postgres_asks_for_the_password(own_servers: Stack) -> None:
    url = own_servers.env["DATABASE_URL"].replace("postgres:", "postgres:x", 1)
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError as error:
        assert "password authentication failed" in str(error)  # noqa: PT017 # the connection is what is on trial
    else:
        raise AssertionError("connected without the password")


async def test_rabbitmq_comes_back_from_kill_9_with_durable_messages(
    own_servers: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own_servers.env["AMQP_URL"]
    async with await aio_pika.connect(url, timeout=5) as connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"word", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "kept")
    assert await asyncio.to_thread(broker_of(own_servers).wait_until_queues_are_on_disk)
    broker = broker_of(own_servers)
    own_servers.kill("rabbitmq")
    # Whoever is killed while it is waited for has not said so.
    monkeypatch.setattr(rabbitmq, "_QUEUES_DEADLINE_S", 1.0)
    assert not await asyncio.to_thread(broker.wait_until_queues_are_on_disk)
    monkeypatch.undo()
    await asyncio.to_thread(own_servers.up, SERVERS)
    assert own_servers.env["AMQP_URL"] == url
    async with await aio_pika.connect(url, timeout=5) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
        received = await queue.get(no_ack=True)
        assert received.body == b"word"


def broker_of(stack: Stack) -> RabbitMQ:
    """The stack's own, to ask what `up` asks after it started services."""
    ports = json.loads((stack.run_dir / "state" / "ports.json").read_text())
    password = environment.passwords(stack.run_dir / "secrets.env")[environment.BROKER_PASSWORD]
    node, epmd = Process("rabbitmq", stack.run_dir), Process("epmd", stack.run_dir)
    return RabbitMQ(node, epmd, stack.run_dir / "rabbitmq", ports, password)


def test_rabbitmq_has_its_management_page(own_servers: Stack) -> None:
    page, url = own_servers.env["RABBITMQ_MANAGEMENT_URL"], own_servers.env["AMQP_URL"]
    assert json.loads(ask(page, url, "GET", "/api/whoami"))["name"] == "ticketrush"


def test_rabbitmq_knows_no_stock_user(own_servers: Stack) -> None:
    users = ask(own_servers.env["RABBITMQ_MANAGEMENT_URL"], own_servers.env["AMQP_URL"], "GET", "/api/users")
    names = {user["name"]: user["tags"] for user in json.loads(users)}
    assert names == {"ticketrush": ["administrator"]} | {user.name: [] for user in BROKER_USERS}


def test_all_listen_on_loopback_only(own_servers: Stack) -> None:
    """Erlang's name service and distribution port too, which would let others run code."""
    ours = {f"socket:[{inode}]" for inode in listening_beyond_loopback()}
    held = {
        link
        for pid in processes_of(own_servers.run_dir)
        for link in map(os.readlink, Path(f"/proc/{pid}/fd").iterdir())
    }
    assert len(held) > 10
    assert ours & held == set()


def listening_beyond_loopback() -> list[str]:
    """The inodes of TCP sockets that listen on another address than 127.0.0.0/8 and ::1 (proc(5), net/tcp)."""
    loopback = {"0100007F", "00000000000000000000000001000000"}
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return [row[9] for row in rows if row[3] == "0A" and row[1].split(":")[0] not in loopback]


def test_data_lies_where_the_account_of_the_server_can_reach_it(own_servers: Stack) -> None:
    """pytest's own directories are closed to others, as a home directory may be."""
    data = own_servers.run_dir / "postgres" / "data" / "PG_VERSION"
    assert data.exists()
    if os.geteuid() == 0:
        assert (own_servers.run_dir / "postgres").is_symlink()


def test_clean_removes_data_that_lies_elsewhere(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "run")
    stack.up(("postgres",))
    data = (stack.run_dir / "postgres").resolve()
    stack.clean()
    assert not data.exists()
