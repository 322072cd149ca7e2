"""Each database role does what its row says and nothing else: by the catalog, and by trying all that it must not."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors
from psycopg.sql import SQL, Identifier

from deploy.environment import role_url
from deploy.grants import MAY_HAVE_TEMPORARY_TABLES, TABLES
from deploy.migrate import migrate
from deploy.services import OWNER, ROLES, SCHEMAS, Role
from deploy.stack import Stack
from tests.deploy.privileges import Privilege, granted, written

PASSWORDS = {role.password_variable: f"{role.service}-secret" for role in ROLES}
APPEND_ONLY = {"history", "ledger_entry", "audit_entry", "organiser_request"}
# Each touches no row; who may not is told so before anything else that could be wrong with it.
TRIES = {
    "SELECT": "SELECT FROM {table} WHERE false",
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "UPDATE {table} SET {column} = DEFAULT WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
    "TRUNCATE": "TRUNCATE {table}",
}

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.service)


@pytest.fixture(scope="module")
async def admin_url(own_servers: Stack) -> AsyncIterator[str]:
    """A database with everything in it that migrations make."""
    server, name = own_servers.env["DATABASE_URL"], f"grants_{uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as conn:
        await conn.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    url = server.rpartition("/")[0] + f"/{name}"
    await migrate(url, PASSWORDS, lambda _: None)
    yield url
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as conn:
        await conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


async def tables_of(admin_url: str) -> list[tuple[str, str, str]]:
    """Schema, name and a column of each table there is."""
    async with await psycopg.AsyncConnection[Any].connect(admin_url) as conn:
        cursor = await conn.execute(
            """SELECT table_schema, table_name, min(column_name) FROM information_schema.columns
               WHERE table_schema = ANY(%s) GROUP BY table_schema, table_name""",
            (list(SCHEMAS),),
        )
        return await cursor.fetchall()


async def refused(role: Role, admin_url: str, statement: Any) -> bool:
    """Whether the role is told that it has no right to; nothing comes of it either way."""
    url = role_url(admin_url, role, PASSWORDS[role.password_variable])
    async with await psycopg.AsyncConnection.connect(url) as conn:
        try:
            await conn.execute(statement)
        except errors.InsufficientPrivilege:
            return True
        except psycopg.Error:
            return False
        finally:
            await conn.rollback()
    return False


async def test_the_catalog_says_what_the_table_of_grants_says(admin_url: str) -> None:
    assert await granted(admin_url) == written()


async def test_every_table_has_a_row(admin_url: str) -> None:
    found = {(schema, name) for schema, name, _ in await tables_of(admin_url)}
    assert found == {(schema, table) for schema, grants in TABLES.items() for table in grants}


def test_what_was_said_booked_or_done_by_hand_is_only_added_to() -> None:
    verbs = {grant.verb for grant in written() if grant.thing in APPEND_ONLY}
    assert verbs == {"INSERT", "SELECT"}


@each_role
async def test_a_role_is_refused_every_verb_that_its_row_does_not_have(admin_url: str, role: Role) -> None:
    wrong = []
    for schema, name, column in await tables_of(admin_url):
        for verb, text in TRIES.items():
            statement = SQL(text).format(table=Identifier(schema, name), column=Identifier(column))
            if await refused(role, admin_url, statement) is (Privilege(schema, name, role.name, verb) in written()):
                wrong.append((schema, name, verb))
    assert wrong == []


@each_role
@pytest.mark.parametrize(
    "statement",
    [
        *(f"CREATE TABLE {schema}.mine ()" for schema in (*SCHEMAS, "public")),
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        f"SET ROLE {OWNER}",
        "SET session_replication_role = replica",
        "DROP TABLE reservations.history",
        "ALTER TABLE payments.ledger_entry DISABLE TRIGGER ALL",
        "SELECT passwd FROM pg_shadow",
        "SELECT pg_read_file('/etc/hostname')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
async def test_a_role_makes_nothing_and_becomes_nobody_else(admin_url: str, role: Role, statement: str) -> None:
    url = role_url(admin_url, role, PASSWORDS[role.password_variable])
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        with pytest.raises(errors.InsufficientPrivilege):
            await conn.execute(statement.encode())


@each_role
async def test_only_who_compares_statements_makes_temporary_tables(admin_url: str, role: Role) -> None:
    may = role.service in MAY_HAVE_TEMPORARY_TABLES
    assert await refused(role, admin_url, b"CREATE TEMPORARY TABLE mine ()") is not may


async def test_nobody_is_a_superuser_or_a_member_of_the_owner(admin_url: str) -> None:
    async with await psycopg.AsyncConnection[Any].connect(admin_url) as conn:
        cursor = await conn.execute(
            """SELECT rolname, rolcanlogin FROM pg_roles
               WHERE rolname LIKE 'ticketrush%' AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls)
                 AND NOT EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid)"""
        )
        found = dict(await cursor.fetchall())
    assert found == {OWNER: False} | {role.name: True for role in ROLES}


async def test_a_stranger_may_not_even_connect(admin_url: str) -> None:
    """Who has a role on the server, and none of ours."""
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as conn:
        await conn.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
        try:
            url = "postgresql://stranger:stranger@" + admin_url.rpartition("@")[2]  # pragma: allowlist secret
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                await psycopg.AsyncConnection.connect(url)
        finally:
            await conn.execute("DROP ROLE stranger")
