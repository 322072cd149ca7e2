"""What docs/operations.md says may go, may go; what it says may not is missed."""

import re
from pathlib import Path

import psycopg

from contract.invariants import Invariant
from tests.ops.books import Books, broken

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
STATEMENT = re.findall(r"^```sql\n(DELETE FROM payments\.parked_message[^\n]+)\n```", PAGE, re.MULTILINE)
PARKED = """
    INSERT INTO payments.parked_message (message_id, queue, routing_key, kind, subject_id, content_type, body, reason,
                                         detail, attempts, state, settle_time, settled_by)
    VALUES (%(name)s, 'q', 'k', '', '', '', '', 'MALFORMED', '', 1, %(state)s, %(settle_time)s, %(settled_by)s)"""


async def test_parked_messages_settled_long_ago_may_go_and_no_others(books: Books) -> None:
    [delete] = STATEMENT
    async with books.copied() as copy:
        async with await psycopg.AsyncConnection.connect(copy.database_url, autocommit=True) as conn:
            for name, state, settled in (
                ("waits", "PARKED", None),
                ("lately", "REDRIVEN", "1 month"),
                ("long ago", "DISCARDED", "2 years"),
            ):
                found = await conn.execute("SELECT clock_timestamp() - %s::interval", (settled,))
                [(settle_time,)] = await found.fetchall()
                row = {"name": name, "state": state, "settle_time": settle_time, "settled_by": settled and "somebody"}
                await conn.execute(PARKED, row)
            await conn.execute(delete.encode())
            left = await (await conn.execute("SELECT message_id FROM payments.parked_message ORDER BY 1")).fetchall()
        assert [name for (name,) in left] == ["lately", "waits"]
        assert broken(await copy.inspect()) == []


async def test_history_may_never_go_however_old_its_subject(books: Books) -> None:
    async with books.copied() as copy:
        await copy.write("DELETE FROM payments.history WHERE subject_id = %(ada_payment)s")
        assert broken(await copy.inspect()) == [Invariant.HISTORY]


async def test_the_word_of_a_person_may_never_go(books: Books) -> None:
    async with books.copied() as copy:
        await copy.write("DELETE FROM reservations.organiser_request")
        assert Invariant.TOTALS in broken(await copy.inspect())
