"""All that the services have stored, in few numbers: to see that nothing of it has changed."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from deploy.stack import Stack

REST_DEADLINE_S: Final = 30.0
REST_POLL_S: Final = 0.01

Census = dict[str, tuple[int, int]]
"""How many rows each table has, and the sum of their hashes."""

_TABLES: Final = """
    SELECT table_schema, table_name FROM information_schema.tables
    WHERE table_schema IN ('reservations', 'payments') AND table_type = 'BASE TABLE' ORDER BY 1, 2"""
# What goes on by itself after a call was answered. A credit whose payment nobody sees to is none of it.
_UNDER_WAY: Final = """
    SELECT EXISTS (SELECT FROM reservations.outbox) OR EXISTS (SELECT FROM payments.outbox)
        OR EXISTS (SELECT FROM payments.payment WHERE state IN ('PENDING', 'REFUND_DUE'))"""
_CHARGES: Final = "provider's charges"


class Registry(NamedTuple):
    """Takes censuses of one stack, over one connection."""

    conn: psycopg.Connection[Any]
    store: Path
    sql: Any

    def take(self) -> Census:
        """Of every table of both schemas, and of the card processor's store."""
        census: Census = {name: (count, total) for name, count, total in self.conn.execute(self.sql)}
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as store:
            rows = [row for (table,) in store.execute(_STORES).fetchall() for row in store.execute(_all_of(table))]
        return census | {_CHARGES: (len(rows), sum(map(hash, rows)))}

    def at_rest(self) -> Census:
        """Once nothing of what was accepted goes on any more."""
        end = time.monotonic() + REST_DEADLINE_S
        while self.conn.execute(_UNDER_WAY).fetchall() == [(True,)]:
            assert time.monotonic() < end, "what was accepted is not done"
            time.sleep(REST_POLL_S)
        return self.take()


_STORES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1"


def _all_of(table: str) -> str:
    return f'SELECT * FROM "{table}"'  # noqa: S608 # the store's own name


@contextmanager
def registry(stack: Stack) -> Iterator[Registry]:
    """Of a stack's two schemas, and its processor's store."""
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as conn:
        each = [
            SQL("SELECT {}, count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {} AS t").format(
                Literal(f"{schema}.{table}"), Identifier(schema, table)
            )
            for schema, table in conn.execute(_TABLES)
        ]
        yield Registry(conn, Path(stack.env["PROVIDER_STORE_PATH"]), SQL(" UNION ALL ").join(each))


def changes(before: Census, after: Census) -> dict[str, str]:
    """What is not as it was, by table."""
    names = before.keys() | after.keys()
    return {name: f"{before.get(name)} -> {after.get(name)}" for name in names if before.get(name) != after.get(name)}
