"""A plan that was made while the tables were empty must not read all of them when they are full."""

from typing import Any
from uuid import uuid4

import pytest
from psycopg import AsyncConnection

from reservations.domain.model import Books
from reservations.store import books as store
from tests.reservations.core import Shop

# psycopg prepares a statement, and PostgreSQL keeps its plan, after five executions each.
UNTIL_KEPT = 12
FEW, MANY = 60, 20_000

_FILL = {
    "reservation": """
        INSERT INTO reservation (reservation_id, event_id, buyer_id, request_id, command_id, state, reject_reason,
                                 currency, total_minor, create_time, expire_time, release_time, payment_grace,
                                 instalment_hold, version)
        SELECT gen_random_uuid(), %(event_id)s, 'fan-' || number, gen_random_uuid(), gen_random_uuid(), 'REJECTED',
               'ANY', 'EUR', 100, now(), now(), now(), '1 min', '1 min', 1
        FROM generate_series(1, %(rows)s) AS number""",
    "holds of reservation": """
        INSERT INTO reservation (reservation_id, event_id, buyer_id, request_id, command_id, state, reject_reason,
                                 currency, total_minor, create_time, expire_time, release_time, payment_grace,
                                 instalment_hold, version)
        SELECT gen_random_uuid(), %(event_id)s, 'fan-' || number %% 10, gen_random_uuid(), gen_random_uuid(), 'HELD',
               '', 'EUR', 100, now(), now(), now(), '1 min', '1 min', 1
        FROM generate_series(1, %(rows)s) AS number""",
    "allowance": """
        INSERT INTO allowance (event_id, buyer_id, ticket_count)
        SELECT %(event_id)s, 'fan-' || number, 1 FROM generate_series(1, %(rows)s) AS number""",
}


async def look(conn: AsyncConnection[Any], table: str, event_id: Any) -> None:
    """As a batch of fifty does."""
    if table == "reservation":
        await store.requests_known(conn, {(f"new-{number}", uuid4()) for number in range(50)})
    elif table == "holds of reservation":
        await store.count_holds(conn, Books(), {(event_id, f"fan-{number}") for number in range(10)})
    else:
        await store.lock_allowances(conn, Books(), {(event_id, f"new-{number}") for number in range(50)})


async def rows_scanned(conn: AsyncConnection[Any], table: str) -> int:
    """In this transaction, by reading the table from its beginning to its end."""
    cursor = await conn.execute("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = %s", (table,))
    [(count,)] = await cursor.fetchall()
    return int(count)


@pytest.mark.parametrize("table", _FILL)
async def test_a_batch_looks_up_only_what_it_is_about(shop: Shop, table: str) -> None:
    hall = await shop.event()
    async with shop.one.database.transaction() as conn:
        # As after a first small sale.
        await conn.execute(_FILL[table].encode(), {"event_id": hall.event_id, "rows": FEW})
        for _ in range(UNTIL_KEPT):
            await look(conn, table, hall.event_id)
        await conn.execute(_FILL[table].encode(), {"event_id": (await shop.event()).event_id, "rows": MANY})
        read = table.rsplit(maxsplit=1)[-1]
        before = await rows_scanned(conn, read)
        await look(conn, table, hall.event_id)
        assert await rows_scanned(conn, read) == before
