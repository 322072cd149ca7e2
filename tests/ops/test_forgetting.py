"""A buyer is forgotten: the person is gone from every row and message, and all that must be true still is."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest

from contract import ids
from deploy import environment
from deploy.services import ROLES
from deploy.stack import Stack
from ops.forgetting import envelopes
from tests.e2e.office import eventually
from tests.ops.books import Books, Copy, broken
from tests.ops.desk import ENTRY, OPERATOR, Desk
from ticketrush.messages.v1 import messages_pb2 as pb

# All that tells of a schema's subjects and their steps, but not who it was.
SHAPE = {
    "reservations": """SELECT history_id, subject_id, subject_version, kind, message_id, occur_time::text FROM history
                       ORDER BY history_id""",
    "payments": """SELECT payment_id, state, amount_minor, currency, version, create_time::text FROM payment
                   ORDER BY payment_id""",
}


def desk_of(copy: Copy, stack: Stack) -> Desk:
    role = next(role for role in ROLES if role.service == "operator")
    password = environment.passwords(stack.run_dir / "secrets.env")[role.password_variable]
    return Desk({"OPERATOR_DATABASE_URL": environment.role_url(copy.database_url, role, password)})


async def rows(copy: Copy, schema: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
    options = f"-c search_path={schema}"
    async with await psycopg.AsyncConnection.connect(copy.database_url, options=options, autocommit=True) as conn:
        cursor = await conn.execute(sql.encode(), values)
        return await cursor.fetchall() if cursor.description else []


async def whereabouts(copy: Copy, buyer_id: str) -> Sequence[str]:
    """The tables in which the name is, as text of a row or in a message."""
    found = []
    for schema in ("reservations", "payments"):
        for (table,) in await rows(copy, schema, "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"):
            query = f'SELECT 1 FROM "{table}" AS one WHERE one::text ~ %s'  # noqa: S608 # a name from the catalog
            found += [f"{schema}.{table}"] * len(await rows(copy, schema, query, rf"\y{buyer_id}\y"))
        for history_id, envelope in await rows(copy, schema, "SELECT history_id, envelope FROM history"):
            if envelopes.names(
                pb.EnvelopeBatch(envelopes=[pb.Envelope.FromString(envelope)]).SerializeToString(), buyer_id
            ):
                found.append(f"{schema}.history {history_id}")
    return found


@pytest.mark.parametrize("buyer_id", ["bob", "hal", "eve", "cyd", "kim"])
async def test_nothing_tells_of_a_forgotten_buyer_and_the_books_balance(
    books: Books, stack: Stack, buyer_id: str
) -> None:
    async with books.copied() as copy:
        assert await whereabouts(copy, buyer_id)
        shapes = {schema: await rows(copy, schema, sql) for schema, sql in SHAPE.items()}
        [(request_id, event_id)] = await rows(
            copy, "reservations", "SELECT request_id, event_id FROM reservation WHERE buyer_id = %s", buyer_id
        )
        typed = await desk_of(copy, stack).change("forget-buyer", buyer_id)
        assert typed.code == 0, typed
        assert await whereabouts(copy, buyer_id) == []
        assert {schema: await rows(copy, schema, sql) for schema, sql in SHAPE.items()} == shapes
        assert broken(await copy.inspect()) == []
        # Nor can a guess of the name be tried on the ids that are derived from it.
        reservation_id = UUID(copy.actors[buyer_id])
        assert ids.reservation_id(event_id, buyer_id, str(request_id)) == reservation_id
        [(name, now)] = await rows(
            copy,
            "reservations",
            "SELECT buyer_id, request_id FROM reservation WHERE reservation_id = %s",
            reservation_id,
        )
        assert ids.reservation_id(event_id, buyer_id, str(now)) != reservation_id
        entries = await rows(copy, "reservations", "SELECT operator, action, subject FROM audit_entry")
        assert entries == [(OPERATOR, "forget-buyer", f"buyer {name}")]
        assert await rows(
            copy, "payments", "SELECT payment_id FROM payment WHERE buyer_id = %s ORDER BY 1", name
        ) == await rows(
            copy, "payments", "SELECT payment_id FROM payment WHERE reservation_id = %s ORDER BY 1", reservation_id
        )


@pytest.mark.parametrize(
    ("buyer_id", "problem"),
    [
        ("fay", "is PARTIALLY_PAID"),
        ("ivy", "is REFUND_DUE"),
        ("nobody", "nobody has bought anything as nobody"),
    ],
)
async def test_a_buyer_with_something_under_way_is_not_forgotten(
    books: Books, stack: Stack, buyer_id: str, problem: str
) -> None:
    async with books.copied() as copy:
        before = await whereabouts(copy, buyer_id)
        typed = await desk_of(copy, stack).change("forget-buyer", buyer_id)
        assert (typed.code, problem in typed.err) == (1, True), typed
        assert await whereabouts(copy, buyer_id) == before


async def test_the_reason_does_not_keep_the_name(books: Books, stack: Stack) -> None:
    async with books.copied() as copy:
        typed = await desk_of(copy, stack).change("forget-buyer", "bob", reason="letter of bob, 3 March")
        assert typed.code == 1
        assert "say it without the name" in typed.err


async def test_a_parked_message_of_the_buyer_must_be_settled_first_and_is_then_erased(
    books: Books, stack: Stack
) -> None:
    envelope = pb.Envelope(cancel_reservation=pb.CancelReservation(buyer_id="bob"))
    other = pb.Envelope(cancel_reservation=pb.CancelReservation(buyer_id="bobby"))
    async with books.copied() as copy:
        for one in (envelope, other):
            await rows(
                copy,
                "reservations",
                """INSERT INTO parked_message (message_id, queue, routing_key, kind, subject_id, content_type, body,
                                               reason, detail, attempts)
                   VALUES ('m', 'q', 'k', 'cancel_reservation', 's', 'c', %s, 'R', 'd', 1)""",
                pb.EnvelopeBatch(envelopes=[one]).SerializeToString(),
            )
        desk = desk_of(copy, stack)
        typed = await desk.change("forget-buyer", "bob")
        assert (typed.code, "parked message reservations/1 tells of bob" in typed.err) == (1, True), typed
        assert "reservations/2" not in typed.err
        assert (await desk.change("parked", "discard", "reservations/1")).code == 0
        assert (await desk.change("forget-buyer", "bob")).code == 0
        bodies = await rows(copy, "reservations", "SELECT body FROM parked_message ORDER BY parked_id")
        assert [bool(body) for (body,) in bodies] == [False, True]


async def test_what_was_cut_short_by_kill_9_is_gone_on_with_under_the_same_name(books: Books, stack: Stack) -> None:
    async with books.copied() as copy:
        desk = desk_of(copy, stack)
        lock = await psycopg.AsyncConnection.connect(copy.database_url)
        await lock.execute("SELECT FROM reservations.reservation WHERE buyer_id = 'bob' FOR UPDATE")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ENTRY, "forget-buyer", "bob", "--reason", "a drill", "--operator", OPERATOR),
            env=desk._environment,
            stderr=asyncio.subprocess.DEVNULL,
        )

        async def half_way() -> bool:
            left = await rows(copy, "payments", "SELECT payment_id FROM payment WHERE buyer_id = 'bob'")
            waiting = await rows(copy, "payments", "SELECT 1 FROM pg_locks WHERE NOT granted")
            return not left and bool(waiting)

        try:
            await eventually(half_way)
        finally:
            os.kill(process.pid, 9)
            await process.wait()
            await lock.close()
        assert await whereabouts(copy, "bob")
        assert broken(await copy.inspect()) == []
        typed = await desk.change("forget-buyer", "bob")
        assert typed.code == 0, typed
        assert await whereabouts(copy, "bob") == []
        names = await rows(copy, "payments", "SELECT DISTINCT buyer_id FROM payment WHERE buyer_id ~ 'forgotten'")
        assert names == await rows(
            copy, "reservations", "SELECT DISTINCT buyer_id FROM reservation WHERE buyer_id ~ 'forgotten'"
        )
        assert len(names) == 1
        assert broken(await copy.inspect()) == []


async def test_history_is_rewritten_only_while_somebody_is_being_forgotten(books: Books) -> None:
    async with books.copied() as copy:
        rewrite = "SELECT rewrite_history(ARRAY[history_id], ARRAY[envelope], ARRAY[''::bytea]) FROM history LIMIT 1"
        assert await rows(copy, "reservations", rewrite) == [(0,)]
        with pytest.raises(psycopg.errors.RestrictViolation):
            await rows(copy, "reservations", "UPDATE history SET envelope = ''")
