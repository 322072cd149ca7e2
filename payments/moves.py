"""The one way in which a payment changes state: row, ledger, history and message in one transaction."""

from collections.abc import Callable, Sequence

from psycopg import AsyncConnection

from chassis.outbox import Outbox, Record, Written
from payments import store
from payments.domain import Payment
from payments.ledger import Entry, postings

# A payment as it is now, one version on, and the step that tells of it.
Move = tuple[Payment, Record]


async def write(
    conn: AsyncConnection,
    outbox: Outbox,
    moves: Sequence[Move],
    *,
    post: Callable[[Payment], Sequence[Entry]] = postings,
) -> Written:
    """Writes all moves of payments locked in this transaction; publish what it returns after the commit.

    `post` says which ledger entries a move causes. Raises store.StaleVersion.
    """
    if not moves:
        return ()
    await store.save(conn, [payment for payment, _ in moves])
    entries = [entry for payment, _ in moves for entry in post(payment)]
    if entries:
        await store.insert_entries(conn, entries)
    return await outbox.write(conn, [record for _, record in moves])
