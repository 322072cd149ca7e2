"""Roles, schemas and tables: made once however often and by however many, and each role sees its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from deploy import environment
from deploy.environment import role_url
from deploy.errors import StackError
from deploy.migrate import migrate
from deploy.services import OWNER, ROLES
from deploy.stack import Stack
from tests.deploy.privileges import granted, written

PASSWORDS = {role.password_variable: f"{role.service}/secret@:%" for role in ROLES}


@pytest.fixture
async def admin_url(own_servers: Stack) -> AsyncIterator[str]:
    """An empty database."""
    async with empty_database(own_servers) as url:
        yield url


@asynccontextmanager
async def empty_database(own_servers: Stack) -> AsyncIterator[str]:
    server, name = own_servers.env["DATABASE_URL"], f"migrate_{uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as conn:
        await conn.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    yield server.rpartition("/")[0] + f"/{name}"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as conn:
        await conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def url_of(service: str, admin_url: str) -> str:
    role = next(role for role in ROLES if role.service == service)
    return role_url(admin_url, role, PASSWORDS[role.password_variable])


async def test_a_second_time_applies_nothing(admin_url: str) -> None:
    first: list[str] = []
    second: list[str] = []
    await migrate(admin_url, PASSWORDS, first.append)
    await migrate(admin_url, PASSWORDS, second.append)
    assert [line for line in first if line.startswith("schema payments: applied")]
    assert second == []


async def test_a_database_that_is_newer_keeps_its_rights_and_its_roles(admin_url: str) -> None:
    await migrate(admin_url, PASSWORDS, lambda _: None)
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as conn:
        await conn.execute("INSERT INTO payments.migration VALUES ('payments/0099_new.sql', '')")
        await conn.execute("CREATE TABLE payments.new (); GRANT SELECT ON payments.new TO ticketrush_payments")
    said: list[str] = []
    assert not await migrate(admin_url, dict.fromkeys(PASSWORDS, "another"), said.append)
    assert said == ["the database is newer than this version (payments: payments/0099_new.sql): it stays as it is"]
    async with await psycopg.AsyncConnection.connect(url_of("payments", admin_url)) as conn:
        await conn.execute("SELECT FROM new")


async def test_a_migration_that_was_changed_is_told_in_one_line(admin_url: str) -> None:
    await migrate(admin_url, PASSWORDS, lambda _: None)
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as conn:
        await conn.execute("UPDATE payments.migration SET checksum = '' WHERE name LIKE 'payments/0001%'")
    with pytest.raises(StackError, match="was changed after it had been applied"):
        await migrate(admin_url, PASSWORDS, lambda _: None)


async def test_another_stack_on_the_same_server_is_not_locked_out(admin_url: str, own_servers: Stack) -> None:
    await migrate(admin_url, PASSWORDS, lambda _: None)
    others = dict.fromkeys(PASSWORDS, "another")
    async with empty_database(own_servers) as elsewhere:
        async with await psycopg.AsyncConnection.connect(url_of("payments", admin_url)) as conn:
            with pytest.raises(StackError, match="give each stack a server of its own"):
                await migrate(elsewhere, others, lambda _: None)
            await migrate(elsewhere, PASSWORDS, lambda _: None)
            await conn.execute("SELECT FROM history")
        await migrate(elsewhere, others, lambda _: None)


async def test_many_at_once_do_it_once(admin_url: str) -> None:
    said: list[str] = []
    await asyncio.gather(*(migrate(admin_url, PASSWORDS, said.append) for _ in range(8)))
    assert len(said) == len(set(said)) > 0


async def test_services_find_their_tables_without_a_schema_and_own_none(admin_url: str) -> None:
    await migrate(admin_url, PASSWORDS, lambda _: None)
    for service in ("reservations", "payments"):
        async with await psycopg.AsyncConnection.connect(url_of(service, admin_url)) as conn:
            cursor = await conn.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = current_schema()")
            assert await cursor.fetchall() == [(OWNER,)]
            await conn.execute("SELECT FROM history")


async def test_a_database_whose_services_owned_their_tables_is_taken_over(admin_url: str) -> None:
    """As they did before there was an owner."""
    await migrate(admin_url, PASSWORDS, lambda _: None)
    async with await psycopg.AsyncConnection.connect(admin_url) as conn:
        for statement in (
            "ALTER SCHEMA reservations OWNER TO ticketrush_reservations",
            "ALTER TABLE reservations.history OWNER TO ticketrush_reservations",
            "ALTER FUNCTION reservations.analyze_tickets OWNER TO ticketrush_reservations",
            """ALTER DEFAULT PRIVILEGES FOR ROLE ticketrush_reservations IN SCHEMA reservations
                   GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ticketrush_scheduler""",
            "GRANT ALL ON ALL TABLES IN SCHEMA reservations TO ticketrush_scheduler",
        ):
            await conn.execute(statement.encode())
    await migrate(admin_url, PASSWORDS, lambda _: None)
    async with await psycopg.AsyncConnection.connect(admin_url) as conn:
        cursor = await conn.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'reservations'")
        assert await cursor.fetchall() == [(OWNER,)]
        cursor = await conn.execute(
            "SELECT defaclobjtype, defaclacl::text FROM pg_default_acl WHERE defaclnamespace <> 0"
        )
        assert await cursor.fetchall() == []
    assert await granted(admin_url) == written()


async def test_what_was_granted_by_hand_goes_with_the_next_migrate(admin_url: str) -> None:
    await migrate(admin_url, PASSWORDS, lambda _: None)
    async with await psycopg.AsyncConnection.connect(admin_url) as conn:
        await conn.execute("GRANT UPDATE ON payments.ledger_entry TO ticketrush_payments, PUBLIC")
        await conn.execute("GRANT CREATE ON SCHEMA payments TO ticketrush_payments")
    await migrate(admin_url, PASSWORDS, lambda _: None)
    assert await granted(admin_url) == written()


async def test_a_role_that_was_made_a_superuser_is_refused(admin_url: str) -> None:
    await migrate(admin_url, PASSWORDS, lambda _: None)
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as conn:
        await conn.execute("ALTER ROLE ticketrush_scheduler SUPERUSER")
        try:
            with pytest.raises(StackError, match="ALTER ROLE ticketrush_scheduler NOSUPERUSER"):
                await migrate(admin_url, PASSWORDS, lambda _: None)
        finally:
            await conn.execute("ALTER ROLE ticketrush_scheduler NOSUPERUSER")


@pytest.mark.parametrize(("service", "schema"), [("reservations", "payments"), ("payments", "reservations")])
async def test_no_service_sees_the_schema_of_another(admin_url: str, service: str, schema: str) -> None:
    await migrate(admin_url, PASSWORDS, lambda _: None)
    async with await psycopg.AsyncConnection.connect(url_of(service, admin_url)) as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await conn.execute(SQL("SELECT FROM {}.history").format(Identifier(schema)))


async def test_an_administrator_need_not_be_a_superuser(admin_url: str) -> None:
    """As with a hosted database."""
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as conn:
        for statement in (
            # Only a superuser may alter roles that he did not make.
            *(f"DROP ROLE IF EXISTS {name}" for name in (*(role.name for role in ROLES), OWNER)),
            "CREATE ROLE modest LOGIN CREATEROLE PASSWORD 'modest'",
            f"GRANT CREATE ON DATABASE {admin_url.rpartition('/')[2]} TO modest",
        ):
            await conn.execute(statement.encode())
    modest = "postgresql://modest:modest@" + admin_url.rpartition("@")[2]  # pragma: allowlist secret
    said: list[str] = []
    try:
        await migrate(modest, PASSWORDS, said.append)
        assert await granted(admin_url) == written()
        assert "its owner may close it" in said[-1]
    finally:
        async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as conn:
            for name in (*(role.name for role in ROLES), OWNER, "modest"):
                await conn.execute(f"DROP OWNED BY {name} CASCADE".encode())
                await conn.execute(f"DROP ROLE {name}".encode())


async def test_a_missing_password_is_named(admin_url: str) -> None:
    with pytest.raises(StackError, match="not set: TICKETRUSH_PAYMENTS_PASSWORD"):
        await migrate(admin_url, PASSWORDS | {"TICKETRUSH_PAYMENTS_PASSWORD": ""}, lambda _: None)


def test_passwords_are_drawn_once(own_servers: Stack) -> None:
    secrets = own_servers.run_dir / "secrets.env"
    first = environment.passwords(secrets)
    assert environment.passwords(secrets) == first
    assert len(set(first.values())) == len(first)


@pytest.mark.parametrize(
    ("admin", "expected"),
    [
        (
            "postgresql://a:b@h1:1,h2:2/d?sslmode=require",  # pragma: allowlist secret
            "postgresql://ticketrush_payments:p%40@h1:1,h2:2/d?sslmode=require",  # pragma: allowlist secret
        ),
        ("postgresql://h/d", "postgresql://ticketrush_payments:p%40@h/d"),  # pragma: allowlist secret
        ("host=h dbname=d user=a password=b", "user=ticketrush_payments password=p@ dbname=d host=h"),
    ],
)
def test_a_role_connects_where_the_administrator_does(admin: str, expected: str) -> None:
    role = next(role for role in ROLES if role.service == "payments")
    assert conninfo_to_dict(role_url(admin, role, "p@")) == conninfo_to_dict(expected)
