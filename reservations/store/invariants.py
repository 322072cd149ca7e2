"""What must be true of schema reservations in any one snapshot.

Each statement reads its tables whole, once, and joins them by hashing: fit for ten million tickets.
"""

from typing import Final

from chassis.soundness import Check
from contract.invariants import Invariant
from reservations.domain.model import OPEN_HOLDS_MAX

# A sweep begins each second and runs for at most three (scheduler/jobs.py); a hold may have to wait for two.
RELEASE_OVERDUE_AFTER_S: Final = 8

_STATE_STEPS: Final = "('RESERVED', 'REJECTED', 'PARTIALLY_PAID', 'SOLD', 'EXPIRED', 'CANCELLED')"
# Each step that changes a state, with the one before it.
_STEPS: Final = f"""
    SELECT subject_id, subject_version, kind,
           lag(kind) OVER (PARTITION BY subject_id ORDER BY subject_version, history_id) AS before
    FROM history WHERE kind IN {_STATE_STEPS}"""  # noqa: S608 - constant

_TICKETS: Final = (
    """
    SELECT 'ticket ' || ticket_id || ' is live in ' || count(*) || ' reservations'
    FROM reservation_ticket WHERE live GROUP BY ticket_id HAVING count(*) > 1""",
    """
    SELECT 'ticket ' || ticket_id || ' is ' || coalesce(ticket.state, 'unknown')
        || ', reservation ' || coalesce(reservation_id::text, '-') || ' is ' || coalesce(holder.state, 'nobody')
    FROM ticket FULL JOIN (
        SELECT ticket_id, reservation_id, coalesce(reservation.state, 'unknown') AS state
        FROM reservation_ticket LEFT JOIN reservation USING (reservation_id) WHERE live
    ) AS holder USING (ticket_id)
    WHERE ticket.state IS DISTINCT FROM CASE
        WHEN holder.state IN ('HELD', 'PARTIALLY_PAID') THEN 'HELD'
        WHEN holder.state = 'CONFIRMED' THEN 'SOLD'
        WHEN holder.state IS NULL AND ticket.state = 'WITHDRAWN' THEN 'WITHDRAWN'
        WHEN holder.state IS NULL THEN 'AVAILABLE' END""",
    """
    SELECT 'reservation ' || reservation_id || ' is ' || state || ' and holds ' || coalesce(live_count, 0)
        || ' of its ' || coalesce(ticket_count, 0) || ' tickets'
    FROM reservation LEFT JOIN (
        SELECT reservation_id, count(*) AS ticket_count, count(*) FILTER (WHERE live) AS live_count
        FROM reservation_ticket GROUP BY reservation_id
    ) AS cart USING (reservation_id)
    WHERE CASE WHEN state IN ('HELD', 'PARTIALLY_PAID', 'CONFIRMED') THEN live_count IS DISTINCT FROM ticket_count
                                                                       OR ticket_count IS NULL
               ELSE live_count > 0 END""",
    """
    SELECT 'event ' || event_id || ' counts ' || concat_ws('/', counted.available, counted.held, counted.sold)
        || ' tickets available/held/sold, there are ' || concat_ws('/', found.available, found.held, found.sold)
    FROM (SELECT event_id, sum(available) AS available, sum(held) AS held, sum(sold) AS sold
          FROM event_count GROUP BY event_id) AS counted
    FULL JOIN (SELECT event_id, count(*) FILTER (WHERE state = 'AVAILABLE') AS available,
                      count(*) FILTER (WHERE state = 'HELD') AS held, count(*) FILTER (WHERE state = 'SOLD') AS sold
               FROM ticket GROUP BY event_id) AS found USING (event_id)
    WHERE (coalesce(counted.available, 0), coalesce(counted.held, 0), coalesce(counted.sold, 0))
       <> (coalesce(found.available, 0), coalesce(found.held, 0), coalesce(found.sold, 0))""",
    """
    SELECT 'buyer ' || buyer_id || ' counts ' || coalesce(ticket_count, 0) || ' tickets of event ' || event_id
        || ' and has ' || coalesce(found, 0)
    FROM allowance FULL JOIN (
        SELECT event_id, buyer_id, count(*) AS found
        FROM reservation JOIN reservation_ticket USING (reservation_id) WHERE live GROUP BY event_id, buyer_id
    ) AS owned USING (event_id, buyer_id)
    WHERE coalesce(ticket_count, 0) <> coalesce(found, 0)""",
    f"""
    SELECT 'buyer ' || buyer_id || ' has ' || count(*) || ' holds of event ' || event_id || ' that are not paid, of '
        || {OPEN_HOLDS_MAX} || ' at most'
    FROM reservation WHERE state IN ('HELD', 'PARTIALLY_PAID') GROUP BY event_id, buyer_id
    HAVING count(*) > {OPEN_HOLDS_MAX}""",  # noqa: S608 - constant
)

_TOTALS: Final = (
    """
    SELECT 'reservation ' || reservation_id || ' over ' || total_minor || ' is ' || state
        || ': open/paid/due/refunded are ' || concat_ws('/', open_minor, paid_minor, refund_due_minor, refunded_minor)
        || ', its payments sum to '
        || concat_ws('/', coalesce(open, 0), coalesce(applied, 0), coalesce(due, 0), coalesce(refunded, 0))
    FROM reservation LEFT JOIN (
        SELECT reservation_id, coalesce(sum(amount_minor) FILTER (WHERE state = 'OPEN'), 0) AS open,
               coalesce(sum(amount_minor) FILTER (WHERE state = 'APPLIED'), 0) AS applied,
               coalesce(sum(amount_minor) FILTER (WHERE state = 'REFUND_DUE'), 0) AS due,
               coalesce(sum(amount_minor) FILTER (WHERE state = 'REFUNDED'), 0) AS refunded
        FROM credit GROUP BY reservation_id
    ) AS credited USING (reservation_id)
    WHERE (open_minor, paid_minor, refund_due_minor, refunded_minor)
       <> (coalesce(open, 0), coalesce(applied, 0), coalesce(due, 0), coalesce(refunded, 0))
       OR open_minor + paid_minor > total_minor
       OR CASE state WHEN 'CONFIRMED' THEN paid_minor <> total_minor
                     WHEN 'PARTIALLY_PAID' THEN paid_minor NOT BETWEEN 1 AND total_minor - 1
                     ELSE paid_minor <> 0 END""",
    # A buyer's cancel is refused once all is paid, so behind this step stands an organiser or an event called off.
    f"""
    SELECT 'reservation ' || step.subject_id || ' was SOLD, then ' || kind || ', and nobody asked for it'
    FROM ({_STEPS}) AS step
    LEFT JOIN reservation ON reservation_id = step.subject_id
    LEFT JOIN event USING (event_id)
    LEFT JOIN (SELECT DISTINCT subject_id FROM organiser_request) AS asked ON asked.subject_id = step.subject_id
    WHERE before = 'SOLD' AND kind <> 'SOLD'
      AND NOT (kind = 'CANCELLED' AND (asked.subject_id IS NOT NULL OR event.state = 'CANCELLED'))""",  # noqa: S608
)

# The transaction began no later than its snapshot was taken.
_RELEASES: Final = (
    f"""
    SELECT 'reservation ' || reservation_id || ' is ' || state || ' and was to be released at ' || release_time
    FROM reservation
    WHERE state IN ('HELD', 'PARTIALLY_PAID')
      AND release_time < transaction_timestamp() - interval '{RELEASE_OVERDUE_AFTER_S} s'""",  # noqa: S608 - constant
)

_HISTORY: Final = (
    """
    SELECT subject_id || ' is at version ' || coalesce(version::text, 'unknown') || ', history has '
        || coalesce(steps || ' from ' || first || ' to ' || last, 'none')
    FROM (SELECT reservation_id AS subject_id, version FROM reservation
          UNION ALL SELECT event_id, version FROM event) AS subject
    FULL JOIN (SELECT subject_id, count(DISTINCT subject_version) AS steps, min(subject_version) AS first,
                      max(subject_version) AS last
               FROM history WHERE subject_version > 0 GROUP BY subject_id) AS told USING (subject_id)
    WHERE (steps, first, last) IS DISTINCT FROM (version, 1::bigint, version)""",
    f"""
    SELECT 'reservation ' || reservation_id || ' is ' || state || ', its history ends with '
        || coalesce(kind, 'nothing')
    FROM reservation LEFT JOIN (
        SELECT DISTINCT ON (subject_id) subject_id AS reservation_id, kind
        FROM history WHERE kind IN {_STATE_STEPS} ORDER BY subject_id, subject_version DESC
    ) AS last USING (reservation_id)
    WHERE state IS DISTINCT FROM CASE kind WHEN 'RESERVED' THEN 'HELD' WHEN 'SOLD' THEN 'CONFIRMED' ELSE kind END""",  # noqa: S608
    """
    SELECT kind || ' of ' || subject_id || ' was kept and never said'
    FROM history WHERE routing_key IS NULL AND kind <> 'PAYMENT_OPENED'""",
    """
    SELECT 'outbox row ' || history_id || ' tells of nothing'
    FROM outbox LEFT JOIN history USING (history_id) WHERE routing_key IS NULL""",
    # A difference of sets: joined, a thousand refunds of just now would be looked up one by one.
    """
    SELECT 'payment ' || payment_id || ' must go back and payments was never told'
    FROM (SELECT payment_id FROM credit WHERE state IN ('REFUND_DUE', 'REFUNDED')
          EXCEPT SELECT subject_id FROM history WHERE kind = 'REFUND_REQUESTED') AS untold""",
)

_REPEATS: Final = (
    """
    SELECT subject_id || ' took step ' || subject_version || ' ' || count(*) || ' times'
    FROM history WHERE subject_version > 0 GROUP BY subject_id, subject_version HAVING count(*) > 1""",
    f"""
    SELECT 'reservation ' || subject_id || ' was ' || coalesce(before, 'new') || ', then ' || kind
    FROM ({_STEPS}) AS step
    WHERE (before IS DISTINCT FROM 'SOLD' OR kind = 'SOLD')
      AND (coalesce(before, ''), kind) NOT IN (
        ('', 'RESERVED'), ('', 'REJECTED'), ('', 'SOLD'),
        ('RESERVED', 'PARTIALLY_PAID'), ('RESERVED', 'SOLD'), ('RESERVED', 'EXPIRED'), ('RESERVED', 'CANCELLED'),
        ('PARTIALLY_PAID', 'PARTIALLY_PAID'), ('PARTIALLY_PAID', 'SOLD'),
        ('PARTIALLY_PAID', 'EXPIRED'), ('PARTIALLY_PAID', 'CANCELLED'), ('EXPIRED', 'SOLD'))""",  # noqa: S608 - constant
    """
    SELECT 'buyer ' || buyer_id || ' got ' || count(*) || ' reservations for request ' || request_id
    FROM reservation GROUP BY buyer_id, request_id HAVING count(*) > 1""",
)

CHECKS: Final = tuple(
    Check(rule, sql)
    for rule, statements in (
        (Invariant.TICKETS, _TICKETS),
        (Invariant.TOTALS, _TOTALS),
        (Invariant.RELEASES, _RELEASES),
        (Invariant.HISTORY, _HISTORY),
        (Invariant.REPEATS, _REPEATS),
    )
    for sql in statements
)
