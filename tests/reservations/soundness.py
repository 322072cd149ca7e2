"""What must always be true of an event and its reservations, asked of the database."""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from contract import keys
from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.v1 import ticketing_pb2 as pb

Rows = Callable[..., Awaitable[list[Any]]]

KEYS = {
    "RESERVED": keys.RESERVED,
    "REJECTED": keys.REJECTED,
    "PAYMENT_OPENED": None,
    "PARTIALLY_PAID": keys.PARTIALLY_PAID,
    "SOLD": keys.SOLD,
    "EXPIRED": keys.EXPIRED,
    "CANCELLED": keys.CANCELLED,
    "MONEY_CHANGED": keys.RESERVATION_UPDATED,
    "REFUND_REQUESTED": keys.REFUND_REQUESTED,
}


async def check_event(rows: Rows, event_id: UUID) -> None:
    """Fails unless seats, money, counts, history and outbox of the event agree with each other."""
    await _seats_have_one_owner(rows, event_id)
    await _counts_are_true(rows, event_id)
    await _money_adds_up(rows, event_id)
    await _every_change_is_told(rows, event_id)


async def _seats_have_one_owner(rows: Rows, event_id: UUID) -> None:
    owners: dict[UUID, list[str]] = defaultdict(list)
    for ticket_id, state, live in await rows(
        """SELECT ticket_id, state, live FROM reservation_ticket JOIN reservation USING (reservation_id)
           WHERE event_id = %s""",
        event_id,
    ):
        assert live == (state in ("HELD", "PARTIALLY_PAID", "CONFIRMED"))
        if live:
            owners[ticket_id].append(state)
    for ticket_id, state in await rows("SELECT ticket_id, state FROM ticket WHERE event_id = %s", event_id):
        expected = {"AVAILABLE": [], "WITHDRAWN": [], "SOLD": ["CONFIRMED"]}
        if state == "HELD":
            assert owners[ticket_id] in (["HELD"], ["PARTIALLY_PAID"])
        else:
            assert owners[ticket_id] == expected[state]


async def _counts_are_true(rows: Rows, event_id: UUID) -> None:
    states = Counter(dict(await rows("SELECT state, count(*) FROM ticket WHERE event_id = %s GROUP BY 1", event_id)))
    counted = await rows("SELECT sum(available), sum(held), sum(sold) FROM event_count WHERE event_id = %s", event_id)
    assert counted == [(states["AVAILABLE"], states["HELD"], states["SOLD"])]
    held = await rows(
        """SELECT buyer_id, count(*) FROM reservation_ticket JOIN reservation USING (reservation_id)
           WHERE event_id = %s AND live GROUP BY 1""",
        event_id,
    )
    allowed = await rows(
        "SELECT buyer_id, ticket_count FROM allowance WHERE event_id = %s AND ticket_count > 0", event_id
    )
    assert dict(allowed) == dict(held)


async def _money_adds_up(rows: Rows, event_id: UUID) -> None:
    wrong = await rows(
        """SELECT reservation_id
           FROM reservation LEFT JOIN LATERAL (
               SELECT coalesce(sum(amount_minor) FILTER (WHERE credit.state = 'APPLIED'), 0) AS paid,
                      coalesce(sum(amount_minor) FILTER (WHERE credit.state = 'OPEN'), 0) AS open,
                      coalesce(sum(amount_minor) FILTER (WHERE credit.state = 'REFUND_DUE'), 0) AS due,
                      coalesce(sum(amount_minor) FILTER (WHERE credit.state = 'REFUNDED'), 0) AS refunded
               FROM credit WHERE credit.reservation_id = reservation.reservation_id
           ) AS sums ON true
           WHERE event_id = %s AND (
               (paid_minor, open_minor, refund_due_minor, refunded_minor) <> (paid, open, due, refunded)
               OR (state = 'CONFIRMED') <> (state IN ('HELD', 'PARTIALLY_PAID', 'CONFIRMED') AND paid = total_minor)
               OR (state = 'HELD' AND paid > 0) OR (state = 'PARTIALLY_PAID' AND paid = 0)
           )""",
        event_id,
    )
    assert wrong == [], "the money of a reservation does not add up"
    unasked = await rows(
        """SELECT payment_id, credit.state FROM credit JOIN reservation USING (reservation_id)
           WHERE event_id = %s AND (credit.state IN ('REFUND_DUE', 'REFUNDED'))
                 <> EXISTS (SELECT FROM history WHERE subject_id = payment_id AND kind = 'REFUND_REQUESTED')""",
        event_id,
    )
    assert unasked == [], "a refund that is due was not asked for, or one was that is not"


async def _every_change_is_told(rows: Rows, event_id: UUID) -> None:
    versions = dict(await rows("SELECT reservation_id, version FROM reservation WHERE event_id = %s", event_id))
    told: dict[UUID, list[int]] = defaultdict(list)
    last: dict[UUID, pb.Reservation] = {}
    ticket_versions: dict[str, set[int]] = defaultdict(lambda: {1})
    for subject_id, version, kind, routing_key, envelope, owed in await rows(
        """SELECT subject_id, subject_version, kind, routing_key, envelope, outbox.history_id IS NOT NULL
           FROM history JOIN reservation ON reservation_id = subject_id LEFT JOIN outbox USING (history_id)
           WHERE event_id = %s ORDER BY history_id""",
        event_id,
    ):
        assert routing_key == KEYS[kind]
        assert owed == (routing_key is not None)
        fact = msg.Envelope.FromString(envelope)
        shown: pb.Reservation = getattr(fact, fact.WhichOneof("payload") or "").reservation
        assert (fact.subject_id, fact.subject_version, shown.version) == (str(subject_id), version, version)
        told[subject_id].append(version)
        last[subject_id] = shown
        for ticket in shown.tickets:
            ticket_versions[ticket.ticket_id].add(ticket.version)
    assert told == {found: list(range(1, version + 1)) for found, version in versions.items()}
    for ticket_id, version in await rows("SELECT ticket_id, version FROM ticket WHERE event_id = %s", event_id):
        assert ticket_versions[str(ticket_id)] >= set(range(1, version + 1)), (
            "a change of a ticket that nobody heard of"
        )
    for reservation_id, state in await rows(
        "SELECT reservation_id, state FROM reservation WHERE event_id = %s", event_id
    ):
        assert last[reservation_id].state == pb.Reservation.State.Value(f"STATE_{state}")
