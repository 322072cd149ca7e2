"""Database roles, schemas and tables: idempotent, and safe when several run at once."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import DuplicateObject, InternalError, UniqueViolation
from psycopg.sql import SQL, Identifier, Literal

from chassis import migrations
from deploy.environment import role_url
from deploy.errors import StackError
from deploy.services import ROLES, Role

ATTEMPTS_MAX: Final = 10
CONNECT_TIMEOUT_S: Final = 10
_ROOT: Final = Path(__file__).resolve().parent.parent


async def migrate(admin_url: str, passwords: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Makes roles and schemas where missing, sets passwords and grants, then applies new migrations as each owner.

    `passwords` holds one for each role's `password_variable`. Raises StackError.
    """
    missing = [role.password_variable for role in ROLES if not passwords.get(role.password_variable)]
    if missing:
        raise StackError(f"cannot migrate, these are not set: {', '.join(missing)}")
    try:
        await _make_roles(admin_url, passwords)
        for role in ROLES:
            if role.owns_schema:
                folders = [_ROOT / "chassis" / "migrations", _ROOT / role.service / "migrations"]
                for file in await migrations.migrate(
                    role_url(admin_url, role, passwords[role.password_variable]), role.schema, folders
                ):
                    say(f"schema {role.schema}: applied {file}")
    except psycopg.Error as error:
        raise StackError(f"the database at DATABASE_URL does not do what is needed: {error}") from error


async def _make_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Tried again when somebody else makes the same roles: all databases share them, and no lock of one covers that."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            async with await AsyncConnection.connect(admin_url, connect_timeout=CONNECT_TIMEOUT_S) as conn:
                for role in ROLES:
                    await _refuse_if_others_use(conn, admin_url, role, passwords[role.password_variable])
                    await _make_role(conn, role, passwords[role.password_variable])
                for role in ROLES:
                    await _grant(conn, role)
        except (DuplicateObject, UniqueViolation, InternalError):
            # InternalError: "tuple concurrently updated".
            if attempt == ATTEMPTS_MAX:
                raise
        else:
            return


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


async def _make_role(conn: AsyncConnection, role: Role, password: str) -> None:
    name = Identifier(role.name)
    known = await conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role.name,))
    if await known.fetchone() is None:
        await conn.execute(SQL("CREATE ROLE {} LOGIN").format(name))
    await conn.execute(SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, Literal(password)))
    await conn.execute(SQL("ALTER ROLE {} SET search_path TO {}").format(name, Identifier(role.schema)))
    # Who is not a superuser may give a schema away, and grant on it, only as a member of its owner.
    await conn.execute(SQL("GRANT {} TO CURRENT_USER").format(name))


async def _grant(conn: AsyncConnection, role: Role) -> None:
    """The owner of a schema gets it; others get the use of every table and sequence in it, now and later."""
    names = {
        "schema": Identifier(role.schema),
        "role": Identifier(role.name),
        "owner": Identifier(Role(role.schema, role.schema).name),
    }
    if role.owns_schema:
        await conn.execute(SQL("CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {owner}").format(**names))
        return
    for statement in (
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        """ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema}
               GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}""",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {role}",
    ):
        await conn.execute(SQL(statement).format(**names))
