"""The books of a live system, checked from outside: what must always hold of tickets and money (design, section 4).

SQL over both schemas, and the card processor's own statement beside it. It shares no code with the services.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import psycopg

from ticketrush.provider.v1 import provider_pb2 as provider

# Each shows what is still on its way: until all are empty, money may rightly be between two places.
UNDER_WAY: Final[Mapping[str, str]] = {
    "messages to be said": """
        SELECT 'reservations: ' || kind FROM reservations.outbox JOIN reservations.history USING (history_id)
        UNION ALL SELECT 'payments: ' || kind FROM payments.outbox JOIN payments.history USING (history_id)""",
    "payments": """
        SELECT payment_id || ' is ' || state FROM payments.payment
        WHERE state = 'PENDING' OR state = 'REFUND_DUE' AND payment_id NOT IN (SELECT * FROM refused_refund)""",
    "credits": """
        SELECT payment_id || ' is ' || state FROM reservations.credit
        WHERE state = 'OPEN' OR state = 'REFUND_DUE' AND payment_id NOT IN (SELECT * FROM refused_refund)""",
    "events called off": "SELECT event_id::text FROM reservations.event WHERE state = 'CANCELLED' AND NOT settled",
    # Invariant 4: by the deadline of whoever waits here, no live hold is older than its release_time.
    "holds to be released": """
        SELECT reservation_id || ' was due at ' || release_time FROM reservations.reservation
        WHERE state IN ('HELD', 'PARTIALLY_PAID') AND release_time < clock_timestamp()""",
}

_TICKETS: Final = {
    "1. a ticket has at most one live reservation": """
        SELECT ticket_id || ' has ' || count(*) FROM reservations.reservation_ticket
        WHERE live GROUP BY ticket_id HAVING count(*) > 1""",
    "1. a ticket is HELD or SOLD exactly while a reservation holds it": """
        SELECT ticket_id || ' is ' || ticket.state || ', its reservation ' || coalesce(reservation.state, 'none')
        FROM reservations.ticket
        LEFT JOIN reservations.reservation_ticket AS held USING (ticket_id)
        LEFT JOIN reservations.reservation ON reservation.reservation_id = held.reservation_id
        WHERE coalesce(held.live, true) AND ticket.state <> ALL (CASE
            WHEN reservation.state IS NULL THEN ARRAY['AVAILABLE', 'WITHDRAWN']
            WHEN reservation.state IN ('HELD', 'PARTIALLY_PAID') THEN ARRAY['HELD']
            WHEN reservation.state = 'CONFIRMED' THEN ARRAY['SOLD']
            ELSE ARRAY[]::text[] END)""",
    "1. a ticket that nobody holds is on sale, and all of a cart is held or nothing": """
        SELECT ticket_id || ' is ' || ticket.state FROM reservations.ticket
        WHERE state IN ('HELD', 'SOLD')
          AND NOT EXISTS (SELECT FROM reservations.reservation_ticket AS held
                          WHERE held.ticket_id = ticket.ticket_id AND live)
        UNION ALL
        SELECT reservation_id || ' is ' || state || ' with tickets live: ' || array_agg(live)::text
        FROM reservations.reservation JOIN reservations.reservation_ticket USING (reservation_id)
        GROUP BY reservation_id, state
        HAVING NOT CASE WHEN state IN ('HELD', 'PARTIALLY_PAID', 'CONFIRMED') THEN bool_and(live)
                        ELSE NOT bool_or(live) END""",
    "1. the counts of an event are those of its tickets": """
        SELECT event_id || ': counted ' || counted::text || ', there are ' || found::text
        FROM (SELECT event_id, array[sum(available), sum(held), sum(sold)]::bigint[] AS counted
              FROM reservations.event_count GROUP BY event_id) AS by_count
        JOIN (SELECT event_id, array[count(*) FILTER (WHERE state = 'AVAILABLE'),
                                     count(*) FILTER (WHERE state = 'HELD'),
                                     count(*) FILTER (WHERE state = 'SOLD')]::bigint[] AS found
              FROM reservations.ticket GROUP BY event_id) AS by_ticket USING (event_id)
        WHERE counted <> found""",
    "1. a buyer's allowance counts what the buyer has": """
        SELECT event_id || ' ' || buyer_id || ': counted ' || coalesce(ticket_count, 0)
            || ', has ' || coalesce(found, 0)
        FROM reservations.allowance
        FULL JOIN (SELECT event_id, buyer_id, count(*) AS found
                   FROM reservations.reservation JOIN reservations.reservation_ticket USING (reservation_id)
                   WHERE live GROUP BY event_id, buyer_id) AS owned USING (event_id, buyer_id)
        WHERE coalesce(ticket_count, 0) <> coalesce(found, 0)""",
}

_MONEY: Final = {
    "2. a charged payment is applied to a reservation or goes back, never both, never neither": """
        SELECT payment_id || ' is ' || coalesce(payment.state, 'unknown')
            || ' over ' || coalesce(payment.amount_minor, 0)
            || ', its credit ' || coalesce(credit.state, 'none') || ' over ' || coalesce(credit.amount_minor, 0)
            || ', its reservation ' || coalesce(reservation.state, 'none')
        FROM payments.payment
        FULL JOIN reservations.credit USING (payment_id)
        LEFT JOIN reservations.reservation ON reservation.reservation_id = credit.reservation_id
        WHERE (CASE payment.state
            WHEN 'APPROVED' THEN credit.state = 'APPLIED' AND reservation.state IN ('PARTIALLY_PAID', 'CONFIRMED')
            WHEN 'REFUND_DUE' THEN credit.state = 'REFUND_DUE'
            WHEN 'REFUNDED' THEN credit.state = 'REFUNDED'
            WHEN 'REJECTED' THEN coalesce(credit.state, 'CLOSED') = 'CLOSED' END
            AND (payment.state = 'REJECTED' OR payment.amount_minor = credit.amount_minor)) IS NOT TRUE""",
    "3. what is open and applied stays within the total, and CONFIRMED means paid": """
        SELECT reservation_id || ' is ' || state FROM reservations.reservation
        LEFT JOIN LATERAL (
            SELECT coalesce(sum(amount_minor) FILTER (WHERE credit.state = 'OPEN'), 0) AS open,
                   coalesce(sum(amount_minor) FILTER (WHERE credit.state = 'APPLIED'), 0) AS applied,
                   coalesce(sum(amount_minor) FILTER (WHERE credit.state = 'REFUND_DUE'), 0) AS due,
                   coalesce(sum(amount_minor) FILTER (WHERE credit.state = 'REFUNDED'), 0) AS refunded
            FROM reservations.credit WHERE credit.reservation_id = reservation.reservation_id
        ) AS sums ON true
        WHERE (open_minor, paid_minor, refund_due_minor, refunded_minor) <> (open, applied, due, refunded)
           OR open + applied > total_minor
           OR (state = 'CONFIRMED') <> (applied = total_minor AND state <> 'REJECTED' AND state <> 'CANCELLED'
                                        AND state <> 'EXPIRED')
           OR applied > 0 AND state NOT IN ('PARTIALLY_PAID', 'CONFIRMED')""",
    "5. ledger entries sum to zero per payment": """
        SELECT payment_id || ': ' || sum(amount_minor) FROM payments.ledger_entry
        GROUP BY payment_id, currency HAVING sum(amount_minor) <> 0""",
    "5. the ledger agrees with the card processor's statement": """
        SELECT payment_id || ': charged and refunded by our ledger ' || coalesce(ours, '{0,0}')::text
            || ', by the statement ' || coalesce(theirs, '{0,0}')::text
        FROM (SELECT payment_id, currency,
                     array[coalesce(sum(amount_minor) FILTER (WHERE posting = 'CHARGE'), 0),
                           coalesce(-sum(amount_minor) FILTER (WHERE posting = 'REFUND'), 0)]::bigint[] AS ours
              FROM payments.ledger_entry WHERE account = 'provider_clearing'
              GROUP BY payment_id, currency) AS ledger
        FULL JOIN (SELECT payment_id, currency, array[amount_minor, refunded_minor] AS theirs
                   FROM statement_charge WHERE state = 'STATE_APPROVED') AS statement USING (payment_id, currency)
        WHERE ours IS DISTINCT FROM theirs""",
    "5. what stands in the ledger is what the states of the payments say": """
        SELECT payment_id || ' is ' || state || ' with postings ' || coalesce(found, '{}')::text
        FROM payments.payment
        LEFT JOIN (SELECT payment_id, array_agg(DISTINCT posting ORDER BY posting) AS found
                   FROM payments.ledger_entry GROUP BY payment_id) AS posted USING (payment_id)
        WHERE coalesce(found, '{}') <> CASE state
            WHEN 'APPROVED' THEN ARRAY['CHARGE']
            WHEN 'REFUND_DUE' THEN ARRAY['CHARGE', 'REFUND_DUE']
            WHEN 'REFUNDED' THEN ARRAY['CHARGE', 'REFUND', 'REFUND_DUE']
            ELSE ARRAY[]::text[] END""",
}

_HISTORY: Final = {
    "6. every version has its one history row": """
        SELECT subject_id || ' is at version ' || version || ', history has ' || coalesce(versions, '{}')::text
        FROM (SELECT reservation_id AS subject_id, version FROM reservations.reservation
              UNION ALL SELECT event_id, version FROM reservations.event) AS subject
        LEFT JOIN (SELECT subject_id, array_agg(subject_version ORDER BY subject_version) AS versions
                   FROM reservations.history WHERE subject_version > 0 GROUP BY subject_id) AS told USING (subject_id)
        WHERE coalesce(versions, '{}') <> ARRAY(SELECT generate_series(1, version))
        UNION ALL
        SELECT payment_id || ' is at version ' || version || ', history has ' || coalesce(versions, '{}')::text
        FROM payments.payment
        LEFT JOIN (SELECT subject_id AS payment_id, array_agg(subject_version ORDER BY subject_version) AS versions
                   FROM payments.history GROUP BY subject_id) AS told USING (payment_id)
        WHERE coalesce(versions, '{}') <> ARRAY(SELECT generate_series(1, version))""",
    "6. nothing was set aside for a person": """
        SELECT queue || ': ' || kind || ' ' || subject_id || ' ' || reason || ': ' || detail
        FROM (SELECT * FROM reservations.parked_message UNION ALL SELECT * FROM payments.parked_message) AS parked
        WHERE state = 'PARKED'""",
}

INVARIANTS: Final[Mapping[str, str]] = _TICKETS | _MONEY | _HISTORY


async def prepare(
    conn: psycopg.AsyncConnection[Any], statement: Sequence[provider.Charge], refused_refunds: Collection[str]
) -> None:
    """Puts the statement, and the payments whose refund the processor refuses, beside the books for this session."""
    await conn.execute(
        """CREATE TEMPORARY TABLE IF NOT EXISTS statement_charge (
               payment_id uuid, amount_minor bigint, refunded_minor bigint, currency text, state text)"""
    )
    await conn.execute("CREATE TEMPORARY TABLE IF NOT EXISTS refused_refund (payment_id uuid)")
    await conn.execute("TRUNCATE statement_charge, refused_refund")
    async with conn.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO statement_charge VALUES (%s, %s, %s, %s, %s)",
            [
                (
                    charge.payment_id,
                    charge.amount_minor,
                    charge.refunded_minor,
                    charge.currency,
                    provider.Charge.State.Name(charge.state),
                )
                for charge in statement
            ],
        )
        await cursor.executemany("INSERT INTO refused_refund VALUES (%s)", [(one,) for one in refused_refunds])


async def found(conn: psycopg.AsyncConnection[Any], questions: Mapping[str, str]) -> list[str]:
    """What the questions find, each with its name; nothing is as it should be. `prepare` must have been called."""
    problems: list[str] = []
    for name, sql in questions.items():
        cursor = await conn.execute(sql.encode())
        problems += [f"{name}: {row[0]}" for row in await cursor.fetchall()]
    return problems


# What a message may change. When work is to be looked at again is no business of anybody's books.
BOOKS: Final = (
    "SELECT event_id, state, version FROM reservations.event ORDER BY 1",
    "SELECT event_id, ticket_id, state, version FROM reservations.ticket ORDER BY 1, 2",
    """SELECT reservation_id, state, version, total_minor, paid_minor, open_minor, refund_due_minor, refunded_minor
       FROM reservations.reservation ORDER BY 1""",
    "SELECT reservation_id, ticket_id, live FROM reservations.reservation_ticket ORDER BY 1, 2",
    "SELECT payment_id, reservation_id, amount_minor, state FROM reservations.credit ORDER BY 1",
    "SELECT event_id, buyer_id, ticket_count FROM reservations.allowance ORDER BY 1, 2",
    "SELECT history_id FROM reservations.history WHERE kind <> 'REFUND_REQUESTED' ORDER BY 1",
    "SELECT payment_id, state, version, amount_minor, decline_reason FROM payments.payment ORDER BY 1",
    "SELECT payment_id, posting, account, amount_minor FROM payments.ledger_entry ORDER BY 1, 2, 3",
    "SELECT history_id FROM payments.history ORDER BY 1",
)


async def image(conn: psycopg.AsyncConnection[Any]) -> list[list[tuple[Any, ...]]]:
    """All the books as they are now, to be compared with later ones."""
    return [await (await conn.execute(sql.encode())).fetchall() for sql in BOOKS]
