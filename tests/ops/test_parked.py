"""What was set aside is listed, shown, sent again or given up, and no order of events loses any of it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from pamqp.common import FieldTable

from chassis.parking import ParkedMessage, Parking
from chassis.publisher import Publisher
from contract import ids, keys
from ops.audit import Doing
from ops.parked import redrive as redriving
from ops.parked import store
from ops.parked.redrive import redrive
from ops.parked.showing import MASKED
from tests.chassis.broker import running, until
from tests.e2e.house import House
from tests.e2e.office import Office, Reservation, Sale, eventually
from tests.ops.desk import OPERATOR, Desk
from tests.ops.parking import aside, park, parked, schema_of, steal, throw
from ticketrush.messages.v1 import messages_pb2 as pb

DOING = Doing(OPERATOR, redriving.ACTION, "a drill")
COMMANDS = keys.RESERVATION_COMMANDS.name
MONEY = keys.RESERVATION_MONEY.name
REFUNDS = keys.PAYMENT_REFUNDS.name


def reserve_command(sale: Sale, buyer: str) -> pb.Envelope:
    """A Reserve of the first ticket, as a gateway sends it now."""
    request_id = str(uuid4())
    reservation_id = ids.reservation_id(UUID(sale.event_id), buyer, request_id)
    envelope = pb.Envelope(
        message_id=str(ids.command_id(reservation_id, "Reserve", buyer, request_id)),
        subject_id=str(reservation_id),
        reserve_tickets=pb.ReserveTickets(
            reservation_id=str(reservation_id),
            request_id=request_id,
            event_id=sale.event_id,
            buyer_id=buyer,
            ticket_ids=sale.tickets[:1],
        ),
    )
    envelope.occur_time.GetCurrentTime()
    return envelope


def poison() -> pb.Envelope:
    """A refund that can never be made."""
    return pb.Envelope(
        message_id=str(uuid4()), subject_id=str(uuid4()), request_refund=pb.RequestRefund(payment_id="garbled")
    )


async def becomes(house: House, sql: str, subject_id: str, state: str) -> None:
    """Returns when the statement about the subject answers this state."""

    async def reached() -> bool:
        return await house.rows(sql, subject_id) == [(state,)]

    await eventually(reached, lambda: f"{subject_id} is not {state}")


RESERVATION = "SELECT state FROM reservations.reservation WHERE reservation_id = %s"
PAYMENT = "SELECT state FROM payments.payment WHERE payment_id = %s"
CREDIT = "SELECT state FROM reservations.credit WHERE payment_id = %s"


@asynccontextmanager
async def speaking(house: House) -> AsyncIterator[Publisher]:
    """A publisher on the house's broker."""
    publisher = Publisher(
        house.stack.env["AMQP_URL"], exchange=keys.EXCHANGE, mandatory_keys=keys.REQUIRED, name="drill"
    )
    async with running(publisher.run()):
        await until(lambda: publisher.connected)
        yield publisher


async def test_a_fact_that_was_set_aside_is_sent_again_and_the_sale_is_made(
    house: House, office: Office, desk: Desk
) -> None:
    held = await office.held(await office.put_on_sale(), "unlucky")
    paid = (await office.pay(held, card="pm_card_slow", wait_s=0)).payment.payment_id
    await becomes(house, CREDIT, paid, "OPEN")
    await house.kill("reservations")
    try:
        await becomes(house, PAYMENT, paid, "APPROVED")
        envelope = await steal(house, keys.RESERVATION_MONEY.shard(0))
        name = await park(house, "reservations", aside(envelope, MONEY, keys.PAYMENT_APPROVED))
    finally:
        await house.up("reservations")
    [shown] = [one for one in await desk.look("parked", "list") if one["id"] == name]
    assert (shown["kind"], shown["subject_id"], shown["reason"]) == ("payment_approved", paid, "ATTEMPTS_EXHAUSTED")
    whole = await desk.look("parked", "show", name)
    assert whole["envelopes"][0]["payment_approved"]["payment"]["payment_id"] == paid

    typed = await desk.change("parked", "redrive", name, reason="reservations is back")
    assert typed.code == 0, typed
    await office.becomes(held, Reservation.STATE_CONFIRMED)
    [row] = await parked(house, "reservations", message_id=envelope.message_id)
    assert (row["state"], row["settled_by"], row["settle_note"]) == ("REDRIVEN", OPERATOR, "reservations is back")
    [entry] = [one for one in await desk.look("audit") if one["subject"] == f"parked_message {row['parked_id']}"]
    assert (entry["operator"], entry["action"]) == (OPERATOR, "parked redrive")
    assert (entry["reason"], entry["service"]) == ("reservations is back", "reservations")


async def test_a_command_sent_again_twice_has_one_effect(house: House, office: Office, desk: Desk) -> None:
    envelope = reserve_command(await office.put_on_sale(), "doubled")
    name = await park(house, "reservations", aside(envelope, COMMANDS, keys.RESERVATION_REQUESTED))
    # The operator's machine dies between the sending and the marking.
    async with schema_of(house, "reservations") as database, speaking(house) as publisher:
        async with database.transaction() as conn:
            [attempt] = await store.begin_redrive(conn, [int(name.partition("/")[2])])
        assert await redriving._send(publisher, attempt) == ""
    await becomes(house, RESERVATION, envelope.subject_id, "HELD")
    [row] = await parked(house, "reservations", message_id=envelope.message_id)
    assert row["state"] == "PARKED"
    assert (await desk.change("parked", "redrive", name)).code == 0
    [row] = await parked(house, "reservations", message_id=envelope.message_id)
    assert row["state"] == "REDRIVEN"
    [(steps,)] = await house.rows(
        "SELECT count(*) FROM reservations.history WHERE subject_id = %s", envelope.subject_id
    )
    assert steps == 1


async def test_poison_is_parked_again_however_often_it_is_sent(house: House, desk: Desk) -> None:
    envelope = poison()
    await throw(house, keys.REFUND_REQUESTED, envelope)

    async def waits() -> bool:
        rows = await parked(house, "payments", message_id=envelope.message_id)
        return [row["state"] for row in rows][-1:] == ["PARKED"]

    for _ in range(2):
        await eventually(waits)
        row = (await parked(house, "payments", message_id=envelope.message_id))[-1]
        # Whether it comes back before or after it is marked, it is there in the end.
        assert (await desk.change("parked", "redrive", f"payments/{row['parked_id']}")).code in {0, 1}
    await eventually(waits)
    rows = await parked(house, "payments", message_id=envelope.message_id)
    assert [row["state"] for row in rows].count("PARKED") == 1
    typed = await desk.change("parked", "discard", f"payments/{rows[-1]['parked_id']}", reason="thrown by a drill")
    assert typed.code == 0, typed
    assert "PARKED" not in {row["state"] for row in await parked(house, "payments", message_id=envelope.message_id)}


class Boomerang:
    """A broker whose consumer fails a message and parks it again before whoever sent it can mark it."""

    def __init__(self, parking: Parking, message: ParkedMessage) -> None:
        self._parking = parking
        self._message = message

    async def republish(self, _exchange: str, _key: str, _body: bytes, _headers: FieldTable, **_: Any) -> None:
        await self._parking.park([self._message])


async def test_what_comes_back_before_it_is_marked_stays_parked(house: House) -> None:
    message = aside(poison(), REFUNDS, keys.REFUND_REQUESTED)
    name = await park(house, "payments", message)
    parked_id = int(name.partition("/")[2])
    async with schema_of(house, "payments") as service, schema_of(house, "payments", "operator") as database:
        publisher: Any = Boomerang(Parking(service), message)
        done = await redrive(database, publisher, [parked_id], DOING)
    assert (done.redriven, done.came_back) == ([], [parked_id])
    [row] = await parked(house, "payments", message_id=message.message_id)
    assert row["state"] == "PARKED"
    entries = await house.rows("SELECT 1 FROM payments.audit_entry WHERE subject = %s", f"parked_message {parked_id}")
    assert entries == [], "nothing was settled"
    await house.rows("DELETE FROM payments.parked_message WHERE parked_id = %s", parked_id)


async def test_what_no_queue_takes_stays_parked(house: House, desk: Desk) -> None:
    name = await park(house, "payments", aside(poison(), "no.such.queue", keys.REFUND_REQUESTED))
    typed = await desk.change("parked", "redrive", name)
    assert typed.code == 3, typed
    assert name in typed.out
    assert name in {one["id"] for one in await desk.look("parked", "list", "--queue", "no.such.queue")}
    assert (await desk.change("parked", "discard", name)).code == 0


async def test_all_of_a_queue_are_settled_and_no_others(house: House, office: Office, desk: Desk) -> None:
    sale = await office.put_on_sale()
    commands = [reserve_command(sale, f"one-of-many-{number}") for number in range(70)]
    async with schema_of(house, "reservations") as database:
        messages = [aside(command, COMMANDS, keys.RESERVATION_REQUESTED) for command in commands]
        await Parking(database).park(messages)
    other = await park(house, "payments", aside(poison(), REFUNDS, keys.REFUND_REQUESTED))
    typed = await desk.change("parked", "redrive", "--queue", COMMANDS)
    assert typed.code == 0, typed
    assert "70 redriven" in typed.out

    async def all_decided() -> bool:
        ids_ = [command.subject_id for command in commands]
        sql = "SELECT count(*) FROM reservations.reservation WHERE reservation_id = ANY(%s::uuid[])"
        return await house.rows(sql, ids_) == [(70,)]

    await eventually(all_decided)
    assert await desk.look("parked", "list", "--queue", COMMANDS) == []
    assert [one["id"] for one in await desk.look("parked", "list")] == [other]
    assert (await desk.change("parked", "discard", "--queue", REFUNDS)).code == 0


async def test_a_parked_payment_is_shown_without_its_card(house: House, desk: Desk) -> None:
    envelope = pb.Envelope(message_id=str(uuid4()), subject_id=str(uuid4()))
    envelope.request_payment.payment_method = "pm_secret"
    name = await park(house, "payments", aside(envelope, keys.PAYMENT_CHARGES.name, keys.PAYMENT_REQUESTED))
    for options in ([], ["--json"]):
        typed = await desk.type("parked", "show", name, *options)
        assert typed.code == 0
        assert MASKED in typed.out
        assert "pm_secret" not in typed.out
    assert (await desk.change("parked", "discard", name)).code == 0


async def test_bytes_that_hold_no_envelope_are_shown_as_far_as_they_are_known(house: House, desk: Desk) -> None:
    message = ParkedMessage("sha256:0", REFUNDS, "", "", "", "text/plain", b"\xff\xff", "NOT_A_BATCH", "why", 1)
    name = await park(house, "payments", message)
    typed = await desk.type("parked", "show", name, "--raw")
    assert typed.code == 0, typed
    assert "NOT_A_BATCH" in typed.out
    assert "//8=" in typed.out, "its bytes, in base64"
    assert (await desk.change("parked", "discard", name)).code == 0
    assert name in {one["id"] for one in await desk.look("parked", "list", "--state", "discarded")}


@pytest.mark.parametrize("verb", ["redrive", "discard"])
async def test_what_cannot_be_settled_is_refused_whole(house: House, desk: Desk, verb: str) -> None:
    name = await park(house, "payments", aside(poison(), REFUNDS, keys.REFUND_REQUESTED))
    refused = await desk.change("parked", verb, name, "payments/999999999")
    assert refused.code == 1
    assert "payments/999999999" in refused.err
    assert name in {one["id"] for one in await desk.look("parked", "list")}, "the other one was not touched"
    assert (await desk.change("parked", verb)).code == 1, "neither names nor a queue"
    assert (await desk.change("parked", verb, "elsewhere/1")).code == 2
    assert (await desk.type("parked", verb, name)).code == 2, "without a reason"
    assert (await desk.change("parked", verb, name, reason=" ")).code == 2, "with an empty one"
    assert (await desk.change("parked", "discard", name)).code == 0
    assert (await desk.change("parked", verb, name)).code == 1, "settled already"


@pytest.mark.parametrize("verb", ["redrive", "discard"])
async def test_what_cannot_be_noted_is_not_done(house: House, desk: Desk, unwritable: str, verb: str) -> None:
    envelope = poison()
    name = await park(house, "payments", aside(envelope, REFUNDS, keys.REFUND_REQUESTED))
    # Poison that is sent again may be back in its place before the noting fails; done it is in no case.
    assert (await desk.change("parked", verb, name, reason=unwritable)).code in (1, 3)
    rows = await parked(house, "payments", message_id=envelope.message_id)
    assert {row["state"] for row in rows} == {"PARKED"}
    assert (await desk.change("parked", "discard", name)).code == 0


def payment_request(token: str) -> pb.Envelope:
    """A Pay for a reservation that nobody knows."""
    reservation_id, payment_id = str(uuid4()), str(uuid4())
    return pb.Envelope(
        message_id=str(uuid4()),
        subject_id=payment_id,
        request_payment=pb.RequestPayment(
            payment_id=payment_id,
            request_id=str(uuid4()),
            reservation_id=reservation_id,
            buyer_id="ada",
            payment_method=token,
        ),
    )


@pytest.mark.parametrize("verb", ["redrive", "discard"])
async def test_a_cards_token_is_kept_no_longer_than_its_message_may_be_sent_again(
    house: House, desk: Desk, verb: str
) -> None:
    envelope = payment_request("pm_card_told_to_nobody")
    name = await park(house, "payments", aside(envelope, "payments.charges", keys.PAYMENT_REQUESTED))
    [row] = await parked(house, "payments", message_id=envelope.message_id)
    assert b"pm_card_told_to_nobody" in row["body"]
    assert "pm_card_told_to_nobody" not in json.dumps(await desk.look("parked", "show", name))
    assert (await desk.change("parked", verb, name)).code == 0
    [row] = await parked(house, "payments", message_id=envelope.message_id)
    assert (row["state"], row["body"]) == ({"redrive": "REDRIVEN", "discard": "DISCARDED"}[verb], b"")
    assert (await desk.look("parked", "show", name))["envelopes"] == []


async def test_a_request_to_pay_that_nobody_settles_is_given_up_in_the_end(house: House) -> None:
    old, recent = payment_request("pm_card_old"), payment_request("pm_card_recent")
    for envelope in (old, recent):
        await park(house, "payments", aside(envelope, "payments.charges", keys.PAYMENT_REQUESTED))
    await house.rows(
        "UPDATE payments.parked_message SET park_time = park_time - interval '31 days' WHERE message_id = %s",
        old.message_id,
    )
    async with schema_of(house, "payments") as database:
        assert await Parking(database)._give_up_old("request_payment") == 1
        assert await Parking(database)._give_up_old("request_payment") == 0
    [row] = await parked(house, "payments", message_id=old.message_id)
    assert (row["state"], row["body"], row["settled_by"]) == ("DISCARDED", b"", "nobody")
    [row] = await parked(house, "payments", message_id=recent.message_id)
    assert (row["state"], row["body"] == b"") == ("PARKED", False)
    await house.rows("DELETE FROM payments.parked_message WHERE message_id = %s", recent.message_id)


async def test_the_audit_cannot_be_rewritten(house: House) -> None:
    for schema in ("reservations", "payments"):
        for change in (
            "UPDATE {}.audit_entry SET reason = 'none'",
            "DELETE FROM {}.audit_entry",
            "TRUNCATE {}.audit_entry",
        ):
            # As the administrator, whom no grant keeps from it.
            with pytest.raises(psycopg.errors.RestrictViolation):
                await house.rows(change.format(schema))
