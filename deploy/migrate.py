"""Database roles, schemas and tables: idempotent, and safe when several run at once."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import DuplicateObject, InternalError, UniqueViolation
from psycopg.sql import SQL, Identifier, Literal

from chassis import migrations
from deploy import grants
from deploy.environment import role_url
from deploy.errors import StackError
from deploy.services import OWNER, ROLES, SCHEMAS, Role

ATTEMPTS_MAX: Final = 10
# More than the time that is lost can have given out: 15,000 a second for 18 hours.
NUMBERS_SKIPPED: Final = 1_000_000_000
CONNECT_TIMEOUT_S: Final = 10
_ROOT: Final = Path(__file__).resolve().parent.parent
Result = TypeVar("Result")


async def migrate(admin_url: str, passwords: Mapping[str, str], say: Callable[[str], None]) -> bool:
    """Makes roles and schemas where missing, sets passwords, applies new migrations as the owner, then grants anew.

    Leaves a database alone that is newer than this version, and answers False then. `passwords` holds one for each
    role's `password_variable`. Raises StackError.
    """
    missing = [role.password_variable for role in ROLES if not passwords.get(role.password_variable)]
    if missing:
        raise StackError(f"cannot migrate, these are not set: {', '.join(missing)}")
    try:
        if newer := await _newer(admin_url):
            # Our rights and roles would be yesterday's: who uses what is new would lose it.
            say(f"the database is newer than this version ({', '.join(newer)}): it stays as it is")
            return False
        await _make_roles(admin_url, passwords)
        for schema in SCHEMAS:
            for file in await migrations.migrate(admin_url, schema, folders(schema), owner=OWNER):
                say(f"schema {schema}: applied {file}")
        for problem in await _tried_again(admin_url, grants.apply):
            say(problem)
    except psycopg.Error as error:
        raise StackError(f"the database at DATABASE_URL does not do what is needed: {error}") from error
    except migrations.MigrationChanged as error:
        raise StackError(str(error)) from error
    return True


async def _newer(admin_url: str) -> list[str]:
    """The migrations that are applied and that this version does not know."""

    async def look(conn: AsyncConnection) -> list[str]:
        found: list[str] = []
        for schema in SCHEMAS:
            table = Identifier(schema, "migration")
            there = await (await conn.execute("SELECT to_regclass(%s)", (f"{schema}.migration",))).fetchone()
            if there != (None,):
                known = migrations.names(folders(schema))
                rows = await (await conn.execute(SQL("SELECT name FROM {} ORDER BY name").format(table))).fetchall()
                found += [f"{schema}: {name}" for (name,) in rows if name not in known]
        return found

    return await _in_a_transaction(admin_url, look)


async def skip_numbers(admin_url: str) -> None:
    """After a restore, before any service: what the lost time has numbered (history, parked messages, the audit) keeps
    its number, for nothing gets it a second time. Raises StackError.
    """
    try:
        async with await AsyncConnection.connect(admin_url, connect_timeout=CONNECT_TIMEOUT_S) as conn:
            await conn.execute(
                """SELECT setval(format('%%I.%%I', schemaname, sequencename)::regclass, coalesce(last_value, 0) + %s)
                   FROM pg_sequences WHERE schemaname = ANY(%s)""",
                (NUMBERS_SKIPPED, list(SCHEMAS)),
            )
    except psycopg.Error as error:
        raise StackError(f"the database at DATABASE_URL does not do what is needed: {error}") from error


def folders(schema: str) -> list[Path]:
    """Where its migrations are, in the order in which they are applied."""
    return [_ROOT / "chassis" / "migrations", _ROOT / schema / "migrations"]


async def _make_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    async def make(conn: AsyncConnection) -> None:
        await _make_owner(conn)
        for role in ROLES:
            await _refuse_if_others_use(conn, admin_url, role, passwords[role.password_variable])
            await _make_role(conn, role, passwords[role.password_variable])
        await _make_schemas(conn)

    await _tried_again(admin_url, make)


async def _tried_again(admin_url: str, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
    """In one transaction, again when somebody else changes the same roles or grants.

    All databases of a server share its roles, and no lock of one database covers that.
    """
    for _ in range(ATTEMPTS_MAX - 1):
        try:
            return await _in_a_transaction(admin_url, work)
        except (DuplicateObject, UniqueViolation, InternalError):
            # InternalError: "tuple concurrently updated".
            continue
    return await _in_a_transaction(admin_url, work)


async def _in_a_transaction(admin_url: str, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
    async with await AsyncConnection.connect(admin_url, connect_timeout=CONNECT_TIMEOUT_S) as conn:
        return await work(conn)


async def _refuse_if_others_use(conn: AsyncConnection, admin_url: str, role: Role, password: str) -> None:
    """All databases of a server share its roles: to change a password here would lock others out there."""
    found = await conn.execute(
        "SELECT DISTINCT datname FROM pg_stat_activity WHERE usename = %s AND datname <> current_database()",
        (role.name,),
    )
    databases = [str(name) for (name,) in await found.fetchall()]
    if not databases:
        return
    try:
        async with await AsyncConnection.connect(
            role_url(admin_url, role, password), connect_timeout=CONNECT_TIMEOUT_S
        ):
            return
    except psycopg.OperationalError as error:
        raise StackError(
            f"another stack works in database {', '.join(databases)} of this PostgreSQL server, as {role.name} with "
            "another password: give each stack a server of its own, or stop that one first"
        ) from error


async def _make_owner(conn: AsyncConnection) -> None:
    known = await conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (OWNER,))
    if await known.fetchone() is None:
        await conn.execute(SQL("CREATE ROLE {} NOLOGIN").format(Identifier(OWNER)))
    # Who is not a superuser may give a schema away, and work as its owner, only as a member of it.
    await conn.execute(SQL("GRANT {} TO CURRENT_USER").format(Identifier(OWNER)))


async def _make_role(conn: AsyncConnection, role: Role, password: str) -> None:
    name = Identifier(role.name)
    known = await conn.execute(
        """SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
           FROM pg_roles WHERE rolname = %s""",
        (role.name,),
    )
    row = await known.fetchone()
    if row is None:
        await conn.execute(SQL("CREATE ROLE {} LOGIN").format(name))
    elif row == (True,):
        raise StackError(
            f"role {role.name} may do more than a service must; take it back with: ALTER ROLE {role.name} "
            "NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"
        )
    await conn.execute(SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, Literal(password)))
    path = SQL(", ").join(map(Identifier, role.schemas))
    await conn.execute(SQL("ALTER ROLE {} SET search_path TO {}").format(name, path))
    await conn.execute(SQL("GRANT {} TO CURRENT_USER").format(name))


async def _make_schemas(conn: AsyncConnection) -> None:
    owner = Identifier(OWNER)
    for schema in SCHEMAS:
        await conn.execute(SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(Identifier(schema), owner))
    # Before there was an owner, a schema and its tables belonged to the service. DROP then takes back what else a
    # role was given, default privileges among it; it owns nothing any more.
    for role in ROLES:
        name = Identifier(role.name)
        found = await conn.execute(
            "SELECT FROM pg_namespace JOIN pg_roles ON nspowner = pg_roles.oid WHERE rolname = %s", (role.name,)
        )
        if found.rowcount:
            await conn.execute(SQL("REASSIGN OWNED BY {} TO {}").format(name, owner))
            await conn.execute(SQL("DROP OWNED BY {}").format(name))
    # What a migration makes is nobody's business until it is granted, not even for a moment.
    await conn.execute(SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} REVOKE EXECUTE ON ROUTINES FROM PUBLIC").format(owner))
