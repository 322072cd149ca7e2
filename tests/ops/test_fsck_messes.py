"""Every invariant is broken on purpose, in a copy of sound books: fsck names it, and nothing else."""

import pytest

from contract.invariants import Invariant
from tests.ops.books import Books, broken

# One step of a reservation or event more, as its last one.
STEP = """INSERT INTO {schema}.history (subject_id, subject_version, kind, routing_key, shard, message_id, envelope)
          VALUES ({subject}, {version}, '{kind}', 'ticket.anything', 0, gen_random_uuid(), '')"""


def step(schema: str, subject: str, version: int, kind: str) -> str:
    return STEP.format(schema=schema, subject=f"%({subject})s", version=version, kind=kind)


MESSES = {
    "a ticket with two live reservations": (
        Invariant.TICKETS,
        "DROP INDEX reservations.one_live_reservation_per_ticket",
        "INSERT INTO reservations.reservation_ticket VALUES (%(bob)s, %(ada_seat)s, true)",
    ),
    "a sold ticket back on sale": (
        Invariant.TICKETS,
        "UPDATE reservations.ticket SET state = 'AVAILABLE' WHERE ticket_id = %(ada_seat)s",
    ),
    "a ticket sold to nobody": (
        Invariant.TICKETS,
        "UPDATE reservations.ticket SET state = 'SOLD' WHERE ticket_id = %(free_seat)s",
    ),
    "a ticket held for a hold that is over": (
        Invariant.TICKETS,
        "UPDATE reservations.reservation_ticket SET live = true WHERE reservation_id = %(hal)s",
    ),
    "a live reservation without tickets": (
        Invariant.TICKETS,
        "DELETE FROM reservations.reservation_ticket WHERE reservation_id = %(jon)s",
    ),
    "a count that is one off": (
        Invariant.TICKETS,
        "UPDATE reservations.event_count SET held = held + 1 WHERE event_id = %(event)s AND slot = 0",
    ),
    "an allowance that is one off": (
        Invariant.TICKETS,
        "UPDATE reservations.allowance SET ticket_count = ticket_count + 1 WHERE buyer_id = 'bob'",
    ),
    "a sale paid by a payment that nobody knows": (
        Invariant.CHARGES,
        "UPDATE reservations.credit SET payment_id = gen_random_uuid() WHERE payment_id = %(ada_payment)s",
    ),
    "a payment that goes back while it is applied": (
        Invariant.CHARGES,
        """UPDATE payments.payment SET state = 'REFUND_DUE', version = 3, due_time = now()
           WHERE payment_id = %(ada_payment)s""",
        """INSERT INTO payments.ledger_entry
           SELECT payment_id, 'REFUND_DUE', account, amount_minor, currency, now()
           FROM (VALUES ('deferred_revenue', 1), ('refunds_payable', -1)) AS side (account, sign),
           LATERAL (SELECT payment_id, sign * amount_minor AS amount_minor, currency FROM payments.payment
                    WHERE payment_id = %(ada_payment)s) AS paid""",
        step("payments", "ada_payment", 3, "request_refund"),
    ),
    "a payment applied to somebody else's reservation": (
        Invariant.CHARGES,
        "UPDATE payments.payment SET reservation_id = %(bob)s WHERE payment_id = %(ada_payment)s",
    ),
    "a payment declined although it is applied": (
        Invariant.CHARGES,
        """UPDATE reservations.credit SET state = 'APPLIED' WHERE payment_id = %(dan_payment)s""",
        """UPDATE reservations.reservation SET state = 'CONFIRMED', paid_minor = total_minor, version = version + 1
           WHERE reservation_id = %(dan)s""",
        """UPDATE reservations.ticket SET state = 'SOLD' FROM reservations.reservation_ticket AS held
           WHERE held.ticket_id = ticket.ticket_id AND live AND reservation_id = %(dan)s""",
        "UPDATE reservations.event_count SET held = held - 1, sold = sold + 1 WHERE event_id = %(event)s AND slot = 0",
        """INSERT INTO reservations.history
               (subject_id, subject_version, kind, routing_key, shard, message_id, envelope)
           SELECT reservation_id, version, 'SOLD', 'ticket.sold', 0, gen_random_uuid(), ''
           FROM reservations.reservation WHERE reservation_id = %(dan)s""",
    ),
    "a sale that was not paid for": (
        Invariant.TOTALS,
        "ALTER TABLE reservations.reservation DROP CONSTRAINT confirmed_means_paid",
        "UPDATE reservations.reservation SET paid_minor = 0 WHERE reservation_id = %(ada)s",
    ),
    "more paid than the total": (
        Invariant.TOTALS,
        "ALTER TABLE reservations.reservation DROP CONSTRAINT never_paid_above_total",
        "UPDATE reservations.reservation SET total_minor = 1 WHERE reservation_id = %(fay)s",
    ),
    "a refund that its reservation does not count": (
        Invariant.TOTALS,
        "UPDATE reservations.reservation SET refunded_minor = 0 WHERE reservation_id = %(eve)s",
    ),
    "a sale taken back that nobody asked for": (
        Invariant.TOTALS,
        "DELETE FROM reservations.organiser_request WHERE subject_id = %(eve)s",
    ),
    "a hold that nobody released": (
        Invariant.RELEASES,
        "UPDATE reservations.reservation SET release_time = now() - interval '9 s' WHERE reservation_id = %(dan)s",
    ),
    "money that comes from nowhere": (
        Invariant.LEDGER,
        """INSERT INTO payments.ledger_entry VALUES (%(ada_payment)s, 'CHARGE', 'refunds_payable', 1, 'EUR', now())""",
    ),
    "a charge that the ledger does not know": (
        Invariant.LEDGER,
        "DELETE FROM payments.ledger_entry WHERE payment_id = %(ada_payment)s",
    ),
    "an amount that is not what was charged": (
        Invariant.LEDGER,
        "UPDATE payments.ledger_entry SET amount_minor = 2 * amount_minor WHERE payment_id = %(ada_payment)s",
    ),
    "a change without history": (
        Invariant.HISTORY,
        "DELETE FROM reservations.history WHERE subject_id = %(ada)s AND kind = 'SOLD'",
    ),
    "a reservation whose history is gone": (
        Invariant.HISTORY,
        "DELETE FROM reservations.history WHERE subject_id = %(gus)s",
    ),
    "history of a reservation that is gone": (
        Invariant.HISTORY,
        "DELETE FROM reservations.reservation WHERE reservation_id = %(gus)s",
    ),
    "a state that history does not tell of": (
        Invariant.HISTORY,
        "UPDATE reservations.reservation SET state = 'CANCELLED' WHERE reservation_id = %(hal)s",
    ),
    "an event changed without history": (
        Invariant.HISTORY,
        "UPDATE reservations.event SET version = version + 1 WHERE event_id = %(event)s",
    ),
    "a fact that was never said": (
        Invariant.HISTORY,
        "UPDATE reservations.history SET routing_key = NULL WHERE subject_id = %(ada)s AND kind = 'SOLD'",
    ),
    "an outbox row that tells of nothing": (
        Invariant.HISTORY,
        "INSERT INTO reservations.outbox VALUES (-1, now())",
    ),
    "a refund that payments was never asked for": (
        Invariant.HISTORY,
        "DELETE FROM reservations.history WHERE subject_id = %(eve_payment)s",
    ),
    "a payment changed without history": (
        Invariant.HISTORY,
        "DELETE FROM payments.history WHERE subject_id = %(ada_payment)s AND kind = 'payment_approved'",
    ),
    "a payment's fact that was never said": (
        Invariant.HISTORY,
        "UPDATE payments.history SET routing_key = NULL WHERE subject_id = %(ada_payment)s",
    ),
    "a payments outbox row that tells of nothing": (
        Invariant.HISTORY,
        "INSERT INTO payments.outbox VALUES (-1, now())",
    ),
    "a step taken twice": (
        Invariant.REPEATS,
        step("reservations", "gus", 1, "REJECTED"),
    ),
    "a step that may not follow": (
        Invariant.REPEATS,
        """UPDATE reservations.reservation SET state = 'EXPIRED', version = version + 1
           WHERE reservation_id = %(cyd)s""",
        step("reservations", "cyd", 3, "EXPIRED"),
    ),
    "two reservations for one request": (
        Invariant.REPEATS,
        "ALTER TABLE reservations.reservation DROP CONSTRAINT one_reservation_per_request",
        """UPDATE reservations.reservation SET (buyer_id, request_id) = (
               SELECT buyer_id, request_id FROM reservations.reservation WHERE reservation_id = %(gus)s)
           WHERE reservation_id = %(hal)s""",
    ),
    "a payment's step taken twice": (
        Invariant.REPEATS,
        step("payments", "dan_payment", 2, "payment_rejected"),
    ),
    "two payments for one request": (
        Invariant.REPEATS,
        "ALTER TABLE payments.payment DROP CONSTRAINT one_payment_per_request",
        """UPDATE payments.payment SET (buyer_id, request_id) = (
               SELECT buyer_id, request_id FROM payments.payment WHERE payment_id = %(ada_payment)s)
           WHERE payment_id = %(dan_payment)s""",
    ),
}

STATEMENT_MESSES = {
    "a charge that nobody here knows": (
        """UPDATE charge SET payment_id = 'c0ffee00-0000-4000-8000-000000000000' WHERE payment_id = ?""",
        "dan_payment",
        "UPDATE charge SET state = 'APPROVED', decline_reason = '' WHERE payment_id LIKE 'c0ffee00%'",
    ),
    "a charge of a payment that was declined here": (
        "UPDATE charge SET state = 'APPROVED', decline_reason = '' WHERE payment_id = ?",
        "dan_payment",
    ),
    "a charge that the processor does not know": ("DELETE FROM charge WHERE payment_id = ?", "ada_payment"),
    "a charge that the processor declined": (
        "UPDATE charge SET state = 'DECLINED', decline_reason = 'CARD_DECLINED' WHERE payment_id = ?",
        "ada_payment",
    ),
    "a charge over another amount": ("UPDATE charge SET amount_minor = 1 WHERE payment_id = ?", "ada_payment"),
    "a charge in another currency": ("UPDATE charge SET currency = 'USD' WHERE payment_id = ?", "ada_payment"),
    "a refund that the processor never made": (
        "UPDATE charge SET refunded_minor = 0 WHERE payment_id = ?",
        "eve_payment",
    ),
    "a refund that nobody here asked for": (
        "UPDATE charge SET refunded_minor = amount_minor WHERE payment_id = ?",
        "ada_payment",
    ),
}


async def test_sound_books_are_sound(books: Books) -> None:
    async with books.copied() as copy:
        report = await copy.inspect()
    assert broken(report) == []
    assert report.exit_code == 0
    assert report.under_way is None


@pytest.mark.parametrize("mess", MESSES)
async def test_a_mess_is_named_and_nothing_else(books: Books, mess: str) -> None:
    invariant, *statements = MESSES[mess]
    async with books.copied() as copy:
        await copy.write(*statements)
        report = await copy.inspect()
    assert broken(report) == [invariant], report
    assert report.exit_code == 1
    [verdict] = [verdict for verdict in report.verdicts if verdict.violations]
    assert verdict.examples, "it shows which rows"


@pytest.mark.parametrize("mess", STATEMENT_MESSES)
async def test_a_statement_that_disagrees_is_named_and_nothing_else(books: Books, mess: str) -> None:
    first, actor, *others = STATEMENT_MESSES[mess]
    async with books.copied() as copy:
        copy.write_statement(first, actor)
        for other in others:
            copy.write_statement(other)
        report = await copy.inspect()
    assert broken(report) == [Invariant.LEDGER], report
    assert report.exit_code == 1
