"""The books of the system as plain data: what its databases hold, and what the card processor's statement says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg

from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.provider.v1 import provider_pb2 as provider

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

STATEMENT_PAGE: Final = 1_000
STATEMENT_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A row of reservations.reservation; times in seconds since the epoch."""

    reservation_id: str
    event_id: str
    buyer_id: str
    request_id: str
    state: str
    reject_reason: str
    total_minor: int
    paid_minor: int
    refund_due_minor: int
    refunded_minor: int
    create_s: float
    version: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket, and the reservations that hold or own it now."""

    ticket_id: str
    event_id: str
    state: str
    price_minor: int
    version: int


@dataclass(frozen=True, slots=True)
class Held:
    """A ticket of a reservation; `live`: kept for it now."""

    reservation_id: str
    ticket_id: str
    live: bool


@dataclass(frozen=True, slots=True)
class Credit:
    """What a payment is to its reservation."""

    payment_id: str
    reservation_id: str
    amount_minor: int
    state: str


@dataclass(frozen=True, slots=True)
class Payment:
    """A row of payments.payment; times in seconds since the epoch."""

    payment_id: str
    reservation_id: str
    buyer_id: str
    request_id: str
    amount_minor: int
    state: str
    decline_reason: str
    create_s: float
    version: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger."""

    payment_id: str
    posting: str
    account: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Charge:
    """A line of the card processor's statement."""

    payment_id: str
    amount_minor: int
    refunded_minor: int
    state: str


@dataclass(frozen=True, slots=True)
class Step:
    """A change of a reservation or payment as history tells it; time in seconds since the epoch."""

    subject_id: str
    version: int
    kind: str
    occur_s: float
    refund_due_minor: int = 0


@dataclass
class Books:
    """Everything, at one moment at which nothing moves."""

    reservations: Sequence[Reservation] = ()
    tickets: Sequence[Ticket] = ()
    held: Sequence[Held] = ()
    credits: Sequence[Credit] = ()
    payments: Sequence[Payment] = ()
    entries: Sequence[Entry] = ()
    charges: Sequence[Charge] = ()
    steps: Sequence[Step] = ()
    payment_steps: Sequence[Step] = ()
    # Event -> available, held, sold as the event's own counts say.
    counts: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    # (event, buyer) -> tickets that the allowance counts.
    allowances: Mapping[tuple[str, str], int] = field(default_factory=dict)
    # One line per message that was set aside for a person, or waits to be said.
    parked: Sequence[str] = ()
    unsaid: Sequence[str] = ()


_RESERVATIONS: Final = """
    SELECT reservation_id::text, event_id::text, buyer_id, request_id::text, state, reject_reason, total_minor,
           paid_minor, refund_due_minor, refunded_minor, extract(epoch FROM create_time)::float8, version
    FROM reservations.reservation"""
_TICKETS: Final = "SELECT ticket_id::text, event_id::text, state, price_minor, version FROM reservations.ticket"
_HELD: Final = "SELECT reservation_id::text, ticket_id::text, live FROM reservations.reservation_ticket"
_CREDITS: Final = "SELECT payment_id::text, reservation_id::text, amount_minor, state FROM reservations.credit"
_PAYMENTS: Final = """
    SELECT payment_id::text, reservation_id::text, buyer_id, request_id::text, amount_minor, state, decline_reason,
           extract(epoch FROM create_time)::float8, version
    FROM payments.payment"""
_ENTRIES: Final = "SELECT payment_id::text, posting, account, amount_minor FROM payments.ledger_entry"
_STEPS: Final = """
    SELECT subject_id::text, subject_version, kind, extract(epoch FROM occur_time)::float8, envelope
    FROM reservations.history WHERE subject_version > 0 ORDER BY subject_id, subject_version"""
_PAYMENT_STEPS: Final = """
    SELECT subject_id::text, subject_version, kind, extract(epoch FROM occur_time)::float8
    FROM payments.history ORDER BY subject_id, subject_version"""
_COUNTS: Final = """
    SELECT event_id::text, sum(available)::bigint, sum(held)::bigint, sum(sold)::bigint
    FROM reservations.event_count GROUP BY event_id"""
_ALLOWANCES: Final = "SELECT event_id::text, buyer_id, ticket_count FROM reservations.allowance WHERE ticket_count > 0"
_PARKED: Final = """
    SELECT queue || ': ' || kind || ' ' || subject_id || ' ' || reason || ': ' || detail
    FROM (SELECT * FROM reservations.parked_message UNION ALL SELECT * FROM payments.parked_message) AS parked
    WHERE state = 'PARKED'"""
_UNSAID: Final = """
    SELECT 'reservations: ' || kind || ' ' || subject_id
    FROM reservations.outbox JOIN reservations.history USING (history_id)
    UNION ALL
    SELECT 'payments: ' || kind || ' ' || subject_id FROM payments.outbox JOIN payments.history USING (history_id)"""


async def read(database_url: str, statement: Sequence[Charge]) -> Books:
    """The books in one snapshot, with the statement beside them. Raises psycopg.Error."""
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        return Books(
            reservations=[Reservation(*row) for row in await _rows(conn, _RESERVATIONS)],
            tickets=[Ticket(*row) for row in await _rows(conn, _TICKETS)],
            held=[Held(*row) for row in await _rows(conn, _HELD)],
            credits=[Credit(*row) for row in await _rows(conn, _CREDITS)],
            payments=[Payment(*row) for row in await _rows(conn, _PAYMENTS)],
            entries=[Entry(*row) for row in await _rows(conn, _ENTRIES)],
            charges=statement,
            steps=[_step(row) for row in await _rows(conn, _STEPS)],
            payment_steps=[Step(*row) for row in await _rows(conn, _PAYMENT_STEPS)],
            counts={row[0]: (row[1], row[2], row[3]) for row in await _rows(conn, _COUNTS)},
            allowances={(row[0], row[1]): row[2] for row in await _rows(conn, _ALLOWANCES)},
            parked=[row[0] for row in await _rows(conn, _PARKED)],
            unsaid=[row[0] for row in await _rows(conn, _UNSAID)],
        )


async def statement(stub: "PaymentProviderServiceAsyncStub") -> list[Charge]:
    """The card processor's own statement. Raises AioRpcError."""
    charges: list[Charge] = []
    token = ""
    while True:
        request = provider.ListChargesRequest(page_size=STATEMENT_PAGE, page_token=token)
        page = await stub.ListCharges(request, timeout=STATEMENT_TIMEOUT_S)
        charges += [
            Charge(
                charge.payment_id,
                charge.amount_minor,
                charge.refunded_minor,
                provider.Charge.State.Name(charge.state).removeprefix("STATE_"),
            )
            for charge in page.charges
        ]
        token = page.next_page_token
        if not token:
            return charges


async def _rows(conn: psycopg.AsyncConnection[Any], sql: str) -> list[tuple[Any, ...]]:
    return await (await conn.execute(sql.encode())).fetchall()


def _step(row: tuple[Any, ...]) -> Step:
    envelope = msg.Envelope.FromString(row[4])
    told = getattr(envelope, envelope.WhichOneof("payload") or "reservation_updated")
    # A change of an event tells of no reservation.
    refund_due_minor = told.reservation.refund_due_minor if hasattr(told, "reservation") else 0
    subject_id, version, kind, occur_s, _ = row
    return Step(subject_id, version, kind, occur_s, refund_due_minor)
