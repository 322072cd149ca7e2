"""What is held, and what is left of the events on sale, counted for the metrics."""

from typing import Final

from prometheus_client import Gauge

from chassis.census import Census

EVENTS_SHOWN_MAX: Final = 20
"""Open events whose tickets are shown: those created last. An event for ever would be three series for ever."""

TICKETS: Final = Census(
    Gauge(
        "ticketrush_event_tickets",
        f"Tickets of the {EVENTS_SHOWN_MAX} open events that were created last, by state.",
        ("event_id", "state"),
    ),
    f"""
    SELECT event_id::text, state, number
    FROM (SELECT event_id FROM event WHERE state = 'OPEN'
          ORDER BY create_time DESC, event_id DESC LIMIT {EVENTS_SHOWN_MAX}) AS latest
    CROSS JOIN LATERAL (SELECT coalesce(sum(available), 0) AS available, coalesce(sum(held), 0) AS held,
                               coalesce(sum(sold), 0) AS sold
                        FROM event_count WHERE event_count.event_id = latest.event_id) AS counted
    CROSS JOIN LATERAL (VALUES ('AVAILABLE', available), ('HELD', held), ('SOLD', sold)) AS tickets (state, number)
    """,  # noqa: S608 - constant
)

HOLDS: Final = Census(
    Gauge("ticketrush_holds", "Reservations whose tickets are held, by state.", ("state",)),
    # By an index that has these alone.
    """
    SELECT states.state, count(reservation_id)
    FROM (VALUES ('HELD'), ('PARTIALLY_PAID')) AS states (state)
    LEFT JOIN reservation ON reservation.state = states.state AND reservation.state IN ('HELD', 'PARTIALLY_PAID')
    GROUP BY states.state
    """,
)
