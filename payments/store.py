"""All SQL of payments, one function per statement. Rows are locked in the order of payment_id, whoever locks them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import RowMaker
from psycopg.sql import SQL, Literal

from payments.domain import Payment, PaymentState
from payments.ledger import Entry


class StaleVersion(Exception):
    """A payment was written by someone else since it was read, although its row was locked."""


class SaidFact(NamedTuple):
    """A fact as it was said: everything to say it again."""

    subject_id: UUID
    routing_key: str
    message_id: UUID
    envelope: bytes
    shard: int


def _as_payment(cursor: AsyncCursor[Any]) -> RowMaker[Payment]:
    names = [column.name for column in cursor.description or ()]

    def make(values: Sequence[Any]) -> Payment:
        row = dict(zip(names, values, strict=True))
        # When it is due is the database's business: it is judged by the database's clock.
        del row["due_time"]
        return Payment(**row | {"state": PaymentState(row["state"])})

    return make


async def insert(conn: AsyncConnection, payments: Sequence[Payment], lease_s: float) -> set[UUID]:
    """Adds new payments, due when the lease ends. Returns the ids of those added; the others exist or clash.

    Clashing transactions wait for each other; in the order of payment_id, so that they cannot deadlock.
    """
    rows = sorted(payments, key=lambda payment: payment.payment_id)
    cursor = await conn.execute(
        """INSERT INTO payment (payment_id, reservation_id, buyer_id, request_id, asked_minor, payment_method_digest,
                                payment_method, amount_minor, reply_to, command_id, create_time, state_time, due_time)
           SELECT payment_id, reservation_id, buyer_id, request_id, asked_minor, payment_method_digest, payment_method,
                  asked_minor, reply_to, command_id, create_time, create_time,
                  clock_timestamp() + make_interval(secs => %(lease_s)s)
           FROM unnest(%(payment_ids)s::uuid[], %(reservation_ids)s::uuid[], %(buyer_ids)s::text[],
                       %(request_ids)s::uuid[], %(asked_minor)s::bigint[], %(digests)s::bytea[],
                       %(payment_methods)s::text[], %(reply_to)s::text[], %(command_ids)s::text[],
                       %(create_times)s::timestamptz[])
                AS new (payment_id, reservation_id, buyer_id, request_id, asked_minor, payment_method_digest,
                        payment_method, reply_to, command_id, create_time)
           ON CONFLICT DO NOTHING
           RETURNING payment_id""",
        {
            "lease_s": lease_s,
            "payment_ids": [row.payment_id for row in rows],
            "reservation_ids": [row.reservation_id for row in rows],
            "buyer_ids": [row.buyer_id for row in rows],
            "request_ids": [row.request_id for row in rows],
            "asked_minor": [row.asked_minor for row in rows],
            "digests": [row.payment_method_digest for row in rows],
            "payment_methods": [row.payment_method for row in rows],
            "reply_to": [row.reply_to for row in rows],
            "command_ids": [row.command_id for row in rows],
            "create_times": [row.create_time for row in rows],
        },
    )
    return {payment_id for (payment_id,) in await cursor.fetchall()}


async def lock(conn: AsyncConnection, payment_ids: Sequence[UUID]) -> dict[UUID, Payment]:
    """Locks payments until the end of the transaction and reads them as they are now. Unknown ids are left out."""
    async with conn.cursor(row_factory=_as_payment) as cursor:
        await cursor.execute(
            "SELECT * FROM payment WHERE payment_id = ANY(%s::uuid[]) ORDER BY payment_id FOR UPDATE",
            (list(payment_ids),),
        )
        return {payment.payment_id: payment for payment in await cursor.fetchall()}


async def lock_by_request(
    conn: AsyncConnection, requests: Sequence[tuple[str, UUID]]
) -> dict[tuple[str, UUID], Payment]:
    """The same for the payments of some (buyer_id, request_id)."""
    async with conn.cursor(row_factory=_as_payment) as cursor:
        await cursor.execute(
            """SELECT * FROM payment
               WHERE (buyer_id, request_id) IN (SELECT * FROM unnest(%s::text[], %s::uuid[]))
               ORDER BY payment_id FOR UPDATE""",
            ([buyer_id for buyer_id, _ in requests], [request_id for _, request_id in requests]),
        )
        return {(payment.buyer_id, payment.request_id): payment for payment in await cursor.fetchall()}


async def save(conn: AsyncConnection, moved: Sequence[Payment]) -> None:
    """Writes payments that went one version on; a REFUND_DUE one is due at once.

    Raises StaleVersion; the transaction must not be committed then.
    """
    cursor = await conn.execute(
        """UPDATE payment
           SET state = new.state, version = new.version, state_time = new.state_time, amount_minor = new.amount_minor,
               currency = new.currency, opened = new.opened, decline_reason = new.decline_reason,
               payment_method = NULL, attempts = 0,
               due_time = CASE WHEN new.state = 'REFUND_DUE' THEN clock_timestamp() END
           FROM unnest(%(payment_ids)s::uuid[], %(states)s::text[], %(versions)s::bigint[],
                       %(state_times)s::timestamptz[], %(amounts_minor)s::bigint[], %(currencies)s::text[],
                       %(opened)s::boolean[], %(decline_reasons)s::text[])
                AS new (payment_id, state, version, state_time, amount_minor, currency, opened, decline_reason)
           WHERE payment.payment_id = new.payment_id AND payment.version = new.version - 1""",
        {
            "payment_ids": [row.payment_id for row in moved],
            "states": [row.state.value for row in moved],
            "versions": [row.version for row in moved],
            "state_times": [row.state_time for row in moved],
            "amounts_minor": [row.amount_minor for row in moved],
            "currencies": [row.currency for row in moved],
            "opened": [row.opened for row in moved],
            "decline_reasons": [row.decline_reason for row in moved],
        },
    )
    if cursor.rowcount != len(moved):
        raise StaleVersion(f"{len(moved) - cursor.rowcount} of {len(moved)} payments changed meanwhile")


async def postpone(conn: AsyncConnection, attempted: Sequence[tuple[Payment, float]]) -> None:
    """Keeps what failed attempts found out; each payment is due again after its delay in seconds."""
    await conn.execute(
        """UPDATE payment
           SET attempts = new.attempts, opened = new.opened, amount_minor = new.amount_minor, currency = new.currency,
               due_time = clock_timestamp() + make_interval(secs => new.delay_s)
           FROM unnest(%(payment_ids)s::uuid[], %(versions)s::bigint[], %(attempts)s::integer[], %(opened)s::boolean[],
                       %(amounts_minor)s::bigint[], %(currencies)s::text[], %(delays_s)s::double precision[])
                AS new (payment_id, version, attempts, opened, amount_minor, currency, delay_s)
           WHERE payment.payment_id = new.payment_id AND payment.version = new.version""",
        {
            "payment_ids": [payment.payment_id for payment, _ in attempted],
            "versions": [payment.version for payment, _ in attempted],
            "attempts": [payment.attempts for payment, _ in attempted],
            "opened": [payment.opened for payment, _ in attempted],
            "amounts_minor": [payment.amount_minor for payment, _ in attempted],
            "currencies": [payment.currency for payment, _ in attempted],
            "delays_s": [delay_s for _, delay_s in attempted],
        },
    )


async def set_waiting_calls(conn: AsyncConnection, calls: Sequence[tuple[UUID, str, str]]) -> None:
    """Whom to answer about each payment_id from now on: reply_to, command_id. One call per payment."""
    await conn.execute(
        """UPDATE payment SET reply_to = new.reply_to, command_id = new.command_id
           FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS new (payment_id, reply_to, command_id)
           WHERE payment.payment_id = new.payment_id""",
        ([call[0] for call in calls], [call[1] for call in calls], [call[2] for call in calls]),
    )


# The state is written into the statement: an index WHERE state = 'PENDING' serves no query that names it by parameter.
_CLAIM = SQL(
    """WITH due AS (
           SELECT payment_id FROM payment WHERE state = {state} AND due_time <= clock_timestamp()
           ORDER BY due_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED
       )
       UPDATE payment SET due_time = clock_timestamp() + make_interval(secs => %(lease_s)s)
       FROM due WHERE payment.payment_id = due.payment_id
       RETURNING payment.*"""
)
_CLAIM_CHARGES = _CLAIM.format(state=Literal("PENDING"))
_CLAIM_REFUNDS = _CLAIM.format(state=Literal("REFUND_DUE"))


async def claim_charges(conn: AsyncConnection, limit: int, lease_s: float) -> list[Payment]:
    """Takes PENDING payments that are due, the longest first; nobody else gets them before the lease ends."""
    async with conn.cursor(row_factory=_as_payment) as cursor:
        await cursor.execute(_CLAIM_CHARGES, {"limit": limit, "lease_s": lease_s})
        return await cursor.fetchall()


async def claim_refunds(conn: AsyncConnection, limit: int, lease_s: float) -> list[Payment]:
    """The same for payments that are REFUND_DUE."""
    async with conn.cursor(row_factory=_as_payment) as cursor:
        await cursor.execute(_CLAIM_REFUNDS, {"limit": limit, "lease_s": lease_s})
        return await cursor.fetchall()


async def take_refund(conn: AsyncConnection, payment_id: UUID, quiet_s: float, lease_s: float) -> Payment | None:
    """Takes one REFUND_DUE payment that is not due for `quiet_s`; nobody else gets it before the lease ends."""
    async with conn.cursor(row_factory=_as_payment) as cursor:
        await cursor.execute(
            """UPDATE payment SET due_time = clock_timestamp() + make_interval(secs => %(lease_s)s)
               WHERE payment_id = %(payment_id)s AND state = 'REFUND_DUE'
                 AND due_time > clock_timestamp() + make_interval(secs => %(quiet_s)s)
               RETURNING *""",
            {"payment_id": payment_id, "quiet_s": quiet_s, "lease_s": lease_s},
        )
        return await cursor.fetchone()


async def give_back(conn: AsyncConnection, claimed: Sequence[Payment]) -> None:
    """Ends the leases of payments that were claimed and are not done: anyone may work on them now."""
    await conn.execute(
        """UPDATE payment SET due_time = clock_timestamp()
           FROM unnest(%s::uuid[], %s::bigint[]) AS left_over (payment_id, version)
           WHERE payment.payment_id = left_over.payment_id AND payment.version = left_over.version""",
        ([payment.payment_id for payment in claimed], [payment.version for payment in claimed]),
    )


async def insert_entries(conn: AsyncConnection, entries: Sequence[Entry]) -> None:
    """Adds ledger entries; both sides of a posting in one call, which must balance."""
    await conn.execute(
        """INSERT INTO ledger_entry (payment_id, posting, account, amount_minor, currency, post_time)
           SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::bigint[], %s::text[], %s::timestamptz[])""",
        [list(column) for column in zip(*entries, strict=True)],
    )


async def last_steps(conn: AsyncConnection, payment_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """Of each payment the last message that history has, serialised: the command or the fact of its last step."""
    cursor = await conn.execute(
        """SELECT DISTINCT ON (subject_id) subject_id, envelope FROM history
           WHERE subject_id = ANY(%s::uuid[]) ORDER BY subject_id, subject_version DESC""",
        (list(payment_ids),),
    )
    return dict(await cursor.fetchall())


async def said_facts(conn: AsyncConnection, payment_ids: Sequence[UUID]) -> list[SaidFact]:
    """The last fact said about each payment; those about which nothing was said are left out."""
    cursor = await conn.execute(
        """SELECT DISTINCT ON (subject_id) subject_id, routing_key, message_id, envelope, shard
           FROM history WHERE subject_id = ANY(%s::uuid[]) AND routing_key IS NOT NULL
           ORDER BY subject_id, subject_version DESC""",
        (list(payment_ids),),
    )
    return [SaidFact(*row) for row in await cursor.fetchall()]


async def find(conn: AsyncConnection, payment_ids: Sequence[UUID]) -> list[Payment]:
    """Payments as they are now, without waiting for whoever changes them; unknown ids are left out."""
    async with conn.cursor(row_factory=_as_payment) as cursor:
        await cursor.execute("SELECT * FROM payment WHERE payment_id = ANY(%s::uuid[])", (list(payment_ids),))
        return await cursor.fetchall()


async def list_of_reservation(
    conn: AsyncConnection, reservation_id: UUID, buyer_id: str, after: UUID | None, limit: int
) -> list[Payment]:
    """The payments of a reservation, the oldest first, behind the payment `after` (None: from the start).

    Only those that this buyer made, unless it is empty.
    """
    async with conn.cursor(row_factory=_as_payment) as cursor:
        await cursor.execute(
            """SELECT * FROM payment
               WHERE reservation_id = %(reservation_id)s AND (%(buyer_id)s = '' OR buyer_id = %(buyer_id)s)
                 AND (%(after)s::uuid IS NULL OR (create_time, payment_id) > (
                     SELECT create_time, payment_id FROM payment WHERE payment_id = %(after)s))
               ORDER BY create_time, payment_id LIMIT %(limit)s""",
            {"reservation_id": reservation_id, "buyer_id": buyer_id, "after": after, "limit": limit},
        )
        return await cursor.fetchall()


async def count_refunds_due_since(conn: AsyncConnection, instant: datetime) -> int:
    """How many payments have been REFUND_DUE since before the instant."""
    cursor = await conn.execute(
        "SELECT count(*) FROM payment WHERE state = 'REFUND_DUE' AND state_time < %s", (instant,)
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
