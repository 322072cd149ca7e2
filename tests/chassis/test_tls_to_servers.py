"""TLS to RabbitMQ and PostgreSQL, with real ones: who is not whom the CA vouches for is not talked to."""

import asyncio
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from chassis.connection import Link
from chassis.database import Database
from deploy import rabbitmq
from deploy.ports import Ports
from deploy.stack import Stack
from tests.chassis.broker import running, until
from tests.chassis.certificates import Office

SERVER: Final = "server"


@dataclass
class Secured:
    """Servers that speak TLS too; `ca` vouches for them under 127.0.0.1, `stranger` does not."""

    database_url: str
    amqp_url: str
    amqps_port: int
    ca: Path
    stranger: Path

    def amqps(self, host: str, ca: Path) -> str:
        parts = urlsplit(self.amqp_url)
        return f"amqps://{parts.username}:{parts.password}@{host}:{self.amqps_port}/?cafile={quote(str(ca))}"

    def database(self, ca: Path, host: str = "127.0.0.1") -> str:
        return make_conninfo(
            self.database_url, host=host, hostaddr="127.0.0.1", sslmode="verify-full", sslrootcert=str(ca)
        )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    place = tmp_path_factory.mktemp("secured")
    office, stranger = Office(place / "tls"), Office(place / "stranger")
    office.issue(SERVER)
    stranger.issue(SERVER)
    cert, key, ca = office.files(SERVER)
    port = Ports(place).settle(["amqps"], [])["amqps"]
    configure = rabbitmq._configure

    def configure_tls(home: Path, ports: dict[str, int], password: str, peers: Sequence[str]) -> None:
        configure(home, ports, password, peers)
        lines = [
            # The certificate is for the first of them alone.
            f"listeners.ssl.1 = 127.0.0.1:{port}",
            f"listeners.ssl.2 = 127.0.0.2:{port}",
            f"ssl_options.cacertfile = {ca}",
            f"ssl_options.certfile = {cert}",
            f"ssl_options.keyfile = {key}",
        ]
        with (home / "rabbitmq.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")

    stack = Stack(place / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rabbitmq, "_configure", configure_tls)
        try:
            stack.up(("postgres", "rabbitmq"))
            _secure_postgres(stack.env["DATABASE_URL"], cert, key)
            yield Secured(stack.env["DATABASE_URL"], stack.env["AMQP_URL"], port, ca, stranger.files(SERVER)[2])
        finally:
            stack.clean()


def _secure_postgres(url: str, cert: Path, key: Path) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        [[data]] = conn.execute("SHOW data_directory").fetchall()
        for name, file in (("server.crt", cert), ("server.key", key)):
            copy = Path(shutil.copy(file, Path(data) / name))
            shutil.chown(copy, Path(data).owner(), Path(data).group())
        conn.execute("ALTER SYSTEM SET ssl = on")
        conn.execute("SELECT pg_reload_conf()")


async def nothing(_: object) -> None:
    pass


async def test_a_broker_that_the_ca_vouches_for_is_talked_to(secured: Secured) -> None:
    link = Link(secured.amqps("127.0.0.1", secured.ca), name="link", setup=nothing)
    async with running(link.run()):
        await until(lambda: link.connected)


@pytest.mark.parametrize(
    ("host", "knows_it", "reason"),
    [("127.0.0.1", False, "CERTIFICATE_VERIFY_FAILED"), ("127.0.0.2", True, "IP address mismatch")],
    ids=["of another CA", "under another name"],
)
async def test_another_broker_is_not_talked_to(
    secured: Secured, host: str, knows_it: bool, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="chassis.connection")
    link = Link(secured.amqps(host, secured.ca if knows_it else secured.stranger), name="link", setup=nothing)
    async with running(link.run()):
        await until(lambda: reason in caplog.text)
        assert not link.connected


async def test_a_database_that_the_ca_vouches_for_is_talked_to_by_tls(secured: Secured) -> None:
    database = Database(secured.database(secured.ca), schema="public", application="test")
    await database.open()
    try:
        async with database.transaction() as conn:
            found = await conn.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert await found.fetchone() == (True,)
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("host", "knows_it", "reason"),
    [("127.0.0.1", False, "certificate verify failed"), ("other.example", True, "does not match host name")],
    ids=["of another CA", "under another name"],
)
async def test_another_database_is_not_talked_to(secured: Secured, host: str, knows_it: bool, reason: str) -> None:
    url = secured.database(secured.ca if knows_it else secured.stranger, host)
    with pytest.raises(psycopg.OperationalError, match=reason):
        await asyncio.to_thread(lambda: psycopg.connect(url))
