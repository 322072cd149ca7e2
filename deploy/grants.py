"""Who may do what in the database: the one table of it, made true by every `migrate`.

What is not written here is refused: a new table is closed to everybody until it has its row.
"""

from collections.abc import Mapping
from typing import Final

from psycopg import AsyncConnection
from psycopg.sql import SQL, Composable, Identifier

from deploy.services import ROLES

# The letters of psql's \dp.
VERBS: Final[Mapping[str, str]] = {"a": "INSERT", "r": "SELECT", "w": "UPDATE", "d": "DELETE"}

# Schema -> table -> role -> verbs. What was said, booked or done by hand (history, ledger_entry, audit_entry) is never
# changed or deleted by anybody. A row that is to be locked (FOR UPDATE) needs the w.
# fmt: off
TABLES: Final[Mapping[str, Mapping[str, Mapping[str, str]]]] = {
    "reservations": {
        "migration":          {"reservations": "r",    "scheduler": "r",    "operator": "r"},
        "history":            {"reservations": "ar",   "scheduler": "ar",   "operator": "r"},
        "outbox":             {"reservations": "arwd", "scheduler": "arwd", "operator": "r"},
        "parked_message":     {"reservations": "arw",  "scheduler": "r",    "operator": "rw"},
        "audit_entry":        {                                            "operator": "ar"},
        "forgetting":         {                                            "operator": "ard"},
        "event":              {"reservations": "arw",  "scheduler": "rw",   "operator": "r"},
        "event_count":        {"reservations": "arw",  "scheduler": "arw",  "operator": "r"},
        "ticket":             {"reservations": "arw",  "scheduler": "rw",   "operator": "r"},
        "reservation":        {"reservations": "arw",  "scheduler": "rw",   "operator": "r"},
        "reservation_ticket": {"reservations": "arw",  "scheduler": "rw",   "operator": "r"},
        "credit":             {"reservations": "arw",  "scheduler": "rw",   "operator": "r"},
        "allowance":          {"reservations": "arw",  "scheduler": "rw",   "operator": "r"},
        "organiser_request":  {"reservations": "ar",   "scheduler": "r",    "operator": "r"},
    },
    "payments": {
        "migration":          {"payments": "r",                            "operator": "r"},
        "history":            {"payments": "ar",                           "operator": "ar"},
        "outbox":             {"payments": "arwd",                         "operator": "ard"},
        "parked_message":     {"payments": "arw",                          "operator": "rw"},
        "audit_entry":        {                                            "operator": "ar"},
        "forgetting":         {                                            "operator": "ard"},
        "payment":            {"payments": "arw",                          "operator": "rw"},
        "ledger_entry":       {"payments": "ar",                           "operator": "ar"},
    },
}
# Functions that do one thing which their caller may not do by hand: schema -> name -> the roles that may call them.
FUNCTIONS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "reservations": {
        "analyze_tickets":    ("reservations",),
        "rewrite_history":    ("operator",),
        "rename_owner":       ("operator",),
        "rename_past":        ("operator",),
    },
    "payments": {
        "rewrite_history":    ("operator",),
        "rename_payer":       ("operator",),
    },
}
# fmt: on
# fsck lays the card processor's statement beside the tables; no service needs a table of its own.
MAY_HAVE_TEMPORARY_TABLES: Final = ("operator",)


async def apply(conn: AsyncConnection) -> list[str]:
    """Takes back whatever was granted and grants what is written here, in the caller's transaction.

    Returns what only the owner of the database could do. Raises psycopg.Error.
    """
    problems = await _close_database(conn)
    everybody = SQL(", ").join([SQL("PUBLIC"), *(Identifier(role.name) for role in ROLES)])
    for schema, tables in TABLES.items():
        names: dict[str, Composable] = {"schema": Identifier(schema), "all": everybody}
        for statement in (
            "REVOKE ALL ON SCHEMA {schema} FROM {all}",
            "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {all}",
            "REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {all}",
            "REVOKE ALL ON ALL ROUTINES IN SCHEMA {schema} FROM {all}",
        ):
            await conn.execute(SQL(statement).format(**names))
        for role in ROLES:
            if schema in role.schemas:
                await conn.execute(
                    SQL("GRANT USAGE ON SCHEMA {} TO {}").format(Identifier(schema), Identifier(role.name))
                )
        for table, grants in tables.items():
            for service, letters in grants.items():
                await _grant(conn, [VERBS[letter] for letter in letters], schema, table, service)
        for function, services in FUNCTIONS[schema].items():
            for service in services:
                await conn.execute(
                    SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(
                        Identifier(schema, function), Identifier(_name(service))
                    )
                )
    return problems


async def _grant(conn: AsyncConnection, verbs: list[str], schema: str, table: str, service: str) -> None:
    await conn.execute(
        SQL("GRANT {} ON {} TO {}").format(
            SQL(", ").join(map(SQL, verbs)),
            Identifier(schema, table),
            Identifier(_name(service)),
        )
    )


async def _close_database(conn: AsyncConnection) -> list[str]:
    """Nobody connects, or makes temporary tables, or uses the schema `public`, because nobody said otherwise."""
    found = await conn.execute(
        """SELECT current_database(), pg_has_role(datdba, 'USAGE')
           FROM pg_database WHERE datname = current_database()"""
    )
    [(database, may)] = await found.fetchall()
    if not may:
        return [
            f"database {database} belongs to somebody else, and stays open to whoever has a role on its server: "
            f'its owner may close it with: REVOKE ALL ON DATABASE "{database}" FROM PUBLIC'
        ]
    name = Identifier(database)
    await conn.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    for role in ROLES:
        own = Identifier(role.name)
        await conn.execute(SQL("REVOKE ALL ON DATABASE {} FROM {}").format(name, own))
        await conn.execute(SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, own))
        if role.service in MAY_HAVE_TEMPORARY_TABLES:
            await conn.execute(SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(name, own))
    found = await conn.execute("SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public'")
    if await found.fetchone() == (True,):
        await conn.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    return []


def _name(service: str) -> str:
    return next(role.name for role in ROLES if role.service == service)
