"""Every queue with a consumer, fed with what no service of ours says: nothing of it is lost, and nobody waits for it.

The queues come from the contract, so that a new one is fed too.
"""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import pytest
from aiormq.abc import AbstractChannel as Channel
from google.protobuf.message import DecodeError
from hypothesis import strategies as st
from pamqp.commands import Basic

from chassis.batch import BATCH_TYPE, CONTENT_TYPE, pack
from chassis.delivery import ATTEMPT_HEADER, ROUTING_KEY_HEADER
from chassis.topology import WorkQueue
from contract.keys import EXCHANGE, PAYMENT_REFUNDS, PAYMENTS_QUEUES, RESERVATION_REQUESTED, RESERVATIONS_QUEUES
from tests.e2e import ledgers
from tests.e2e.house import SERVICES, House
from tests.e2e.office import Reservation, eventually, new_id
from tests.e2e.wire import listening, say
from tests.ops.desk import Desk
from tests.security.hostile import Known, drawn, fresh_ids, garble, messages
from ticketrush.messages.v1 import messages_pb2 as pb
from ticketrush.v1 import ticketing_pb2 as public

QUEUES: Final = (*RESERVATIONS_QUEUES, *PAYMENTS_QUEUES)
# What the consumer of each queue decides. Written down a second time, on purpose.
PAYLOADS: Final[Mapping[str, tuple[str, ...]]] = {
    "reservations.commands": ("reserve_tickets",),
    "reservations.money": ("cancel_reservation", "payment_approved", "payment_rejected", "refund_completed"),
    "payments.charges": ("request_payment",),
    "payments.refunds": ("request_refund",),
}
# Nothing is kept of these about a reservation that there is not: they are answered, or say nothing new.
IGNORED: Final = {"cancel_reservation", "payment_rejected"}
# Where one of these is decided there is a row with its request_id, whose first body counts.
DECIDED: Final = {"reserve_tickets": "reservations.reservation", "request_payment": "payments.payment"}
EACH: Final = 20
PER_MESSAGE: Final = 3
PUBLISH_TIMEOUT_S: Final = 10.0
GOOD_WORK_TIMEOUT_S: Final = 120.0
SET_ASIDE_WITHIN_S: Final = 30.0
AMOUNTS: Final = (-1, -(2**63), 10**12 + 1, 2**63 - 1)
UNKNOWN: Final = "UNKNOWN_PAYLOAD"

Envelopes = Sequence[pb.Envelope]


class Siege:
    """One stack whose broker anybody may write to, and the events in which good work was done meanwhile."""

    def __init__(self, house: House, channel: Channel) -> None:
        self.house = house
        self._channel = channel
        self._good: list[str] = []
        self._said = 0

    async def sold(self) -> Reservation:
        """Something that has been bought."""
        office = self.house.office
        sale = await office.put_on_sale()
        self._good.append(sale.event_id)
        return await office.buy(sale, "ada")

    async def say(self, queue: WorkQueue, body: bytes, properties: Basic.Properties | None = None) -> None:
        """Returns when the broker has put it into a queue: by turns its shard, and that for what comes again."""
        self._said += 1
        exchange, key = (EXCHANGE, queue.routing_keys[0]) if self._said % 2 else ("", queue.name)
        await self._channel.basic_publish(
            body,
            exchange=exchange,
            routing_key=key,
            properties=properties or usual(),
            mandatory=True,
            timeout=PUBLISH_TIMEOUT_S,
        )

    @asynccontextmanager
    async def goes_on(self) -> AsyncIterator[None]:
        """Nobody ends meanwhile, good work comes to its end, and nothing else happens to tickets and money."""
        pids = {name: self.house.stack.pid(name) for name in SERVICES}
        working = asyncio.create_task(good_work(self.house, self._good))
        try:
            yield
            async with asyncio.timeout(GOOD_WORK_TIMEOUT_S):
                await working
        finally:
            working.cancel()
        assert {name: self.house.stack.pid(name) for name in SERVICES} == pids
        assert all([await self.house.serves(name) for name in SERVICES])
        for table in ("ticket", "allowance", "credit JOIN reservations.reservation USING (reservation_id)"):
            sql = f"SELECT count(*) FROM reservations.{table} WHERE event_id <> ALL(%s::uuid[])"  # noqa: S608 # ours
            assert await self.house.rows(sql, self._good) == [(0,)], table
        stray = """SELECT count(*) FROM payments.ledger_entry
                   WHERE payment_id NOT IN (SELECT payment_id FROM reservations.credit)"""
        assert await self.house.rows(stray) == [(0,)]
        async with self.house.database() as conn:
            await ledgers.prepare(conn, list((await self.house.statement()).values()), ())
            sound = {name: sql for name, sql in ledgers.INVARIANTS.items() if "set aside" not in name}
            assert not await ledgers.found(conn, sound)


async def good_work(house: House, events: list[str]) -> None:
    """Something through each of the queues, on to its end: a purchase, a cancellation, a refund. Adds its event."""
    office = house.office
    sale = await office.put_on_sale(3)
    events.append(sale.event_id)
    bought = await office.buy(sale, "ada", sale.tickets[:1])
    given_back = await office.buy(sale, "ada", sale.tickets[1:2])
    held = await office.held(sale, "ada", sale.tickets[2:])
    assert (await office.cancel(held)).state == Reservation.STATE_CANCELLED
    await office.refund(given_back)
    await office.until(given_back, lambda now: now.refunded_minor == now.total_minor)
    assert (await office.reservation(bought)).state == Reservation.STATE_CONFIRMED
    assert await office.counts(sale.event_id) == (2, 0, 1)


class Ledge:
    """Where what a queue cannot decide ends, from now on: in the table of parked messages, or on the retry ladder."""

    def __init__(self, house: House, queue: WorkQueue) -> None:
        self._house = house
        self._queue = queue

    async def begin(self) -> "Ledge":
        [(self._last_id,)] = await self._rows("SELECT coalesce(max(parked_id), 0) FROM {}.parked_message")
        self._retried = await self._count_retried()
        return self

    async def parked(self) -> list[tuple[str, str, bytes]]:
        """Message_id, reason and bytes of each."""
        sql = "SELECT message_id, reason, body FROM {}.parked_message WHERE queue = %s AND parked_id > %s"
        return [(name, reason, body) for name, reason, body in await self._rows(sql, self._queue.name, self._last_id)]

    async def retried(self) -> int:
        """How many have gone down the first step of the ladder."""
        return round(await self._count_retried() - self._retried)

    async def decided(self, asked: Iterable[pb.Envelope]) -> int:
        """Of how many of these there is a row."""
        count = 0
        for payload, table in DECIDED.items():
            ids = [request_id(envelope, payload) for envelope in asked if envelope.WhichOneof("payload") == payload]
            sql = f"SELECT request_id::text FROM {table} WHERE request_id::text = ANY(%s)"  # noqa: S608 # ours
            found = {known for (known,) in await self._house.rows(sql, ids)}
            count += sum(one in found for one in ids)
        return count

    async def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return await self._house.rows(sql.format(self._queue.service), *values)

    async def _count_retried(self) -> float:
        metric = "ticketrush_amqp_retried_envelopes_total"
        # The step's name is written by Prometheus: 5 or 5.0.
        return sum(
            [
                await self._house.figure(self._queue.service, metric, queue=self._queue.name, delay_s=step)
                for step in ("5", "5.0")
            ]
        )


def request_id(envelope: pb.Envelope, payload: str) -> str:
    """Of its payload, as a database writes it; "" when it is no id."""
    try:
        return str(UUID(getattr(envelope, payload).request_id))
    except ValueError:
        return ""


def usual(**other: Any) -> Basic.Properties:
    """The properties that our own messages have, but for these."""
    fields: dict[str, Any] = {
        "content_type": CONTENT_TYPE,
        "delivery_mode": 2,
        "message_id": new_id(),
        "timestamp": dt.datetime.now(dt.UTC),
        "message_type": BATCH_TYPE,
        "headers": {"shard": 0},
    }
    return Basic.Properties(**fields | other)


def envelopes_in(body: bytes) -> Envelopes:
    """None where it is no batch."""
    try:
        return list(pb.EnvelopeBatch.FromString(body).envelopes)
    except DecodeError:
        return ()


@pytest.fixture(scope="module")
async def siege(house: House) -> AsyncIterator[Siege]:
    async with house.broker() as channel:
        siege = Siege(house, await channel.get_underlay_channel())
        # The first good event is there before anything else.
        async with siege.goes_on():
            pass
        yield siege
    # What is parked waits for a person, and is no violation.
    fsck = await Desk(house.stack.env).type("fsck")
    assert fsck.code == 0, fsck


@pytest.fixture
def known() -> Known:
    """What makes a command well formed, about nothing that there is, nor what another queue was told of: an approval of
    a payment for a reservation that was refused is owed back."""
    return {
        "reservation_id": fresh_ids(EACH),
        "event_id": fresh_ids(3),
        "payment_id": fresh_ids(EACH),
        "message_id": fresh_ids(3 * EACH),
        "buyer_id": ["mallory"],
        "ticket_ids": fresh_ids(20),
        "quantity": [1, 100],
        "section": ["stalls"],
        "amount_minor": [1],
        "payment_method": ["pm_card_ok"],
        "reply_to": [""],
        "currency": ["EUR"],
        "state": [2, 3],
    }


def each_queue() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)


def test_every_queue_has_its_payloads_here() -> None:
    assert PAYLOADS.keys() == {queue.name for queue in QUEUES}


@each_queue()
async def test_bytes_that_are_no_message_are_all_set_aside(siege: Siege, queue: WorkQueue, known: Known) -> None:
    bodies = {body for body in drawn(garble(pb.EnvelopeBatch.DESCRIPTOR, known), 3 * EACH) if not envelopes_in(body)}
    assert len(bodies) >= EACH
    ledge = await Ledge(siege.house, queue).begin()
    async with siege.goes_on():
        for body in bodies:
            await siege.say(queue, body)

        async def all_are_there() -> bool:
            return not await missing()

        async def missing() -> set[bytes]:
            # Of a batch with one bad envelope the parts are kept, each by itself.
            kept = [body.removeprefix(b"") for _, _, body in await ledge.parked()]
            whole = set(kept)
            return {body for body in bodies - whole if not any(part and part in body for part in kept)}

        await eventually(all_are_there, lambda: f"lost of {len(bodies)}")
    assert {reason for _, reason, _ in await ledge.parked()} >= {"NOT_A_BATCH"}


@each_queue()
async def test_messages_that_are_absurd_are_decided_or_ignored_or_set_aside(
    siege: Siege, queue: WorkQueue, known: Known
) -> None:
    right = list(PAYLOADS[queue.name])
    payloads = [field.name for field in pb.Envelope.DESCRIPTOR.oneofs_by_name["payload"].fields]
    asked: dict[bytes, pb.Envelope] = {}
    for envelope in drawn(said(payloads, right, known), 3 * EACH):
        asked.setdefault(envelope.SerializeToString(deterministic=True), envelope)
    ledge = await Ledge(siege.house, queue).begin()
    async with siege.goes_on():
        for batch in batches(list(asked.values())):
            await siege.say(queue, pack(one.SerializeToString() for one in batch))
        wrong = [one for one in asked.values() if one.WhichOneof("payload") not in right]
        ours = [one for one in asked.values() if one.WhichOneof("payload") in right]
        counts: list[int] = []

        async def all_are_accounted_for() -> bool:
            parked = await ledge.parked()
            unknown = sum(reason == UNKNOWN for _, reason, _ in parked)
            others = len(parked) - unknown
            counts[:] = [unknown, others, await ledge.retried(), await ledge.decided(ours)]
            ignored = sum(one.WhichOneof("payload") in IGNORED for one in ours)
            if queue is PAYMENT_REFUNDS:
                # Of one message_id that waits for a person already, no second one is set aside.
                ignored += len(ours) - len({one.message_id for one in ours})
            return unknown == len(wrong) and sum(counts[1:]) >= len(ours) - ignored

        await eventually(all_are_accounted_for, lambda: f"{len(wrong)} wrong, {len(ours)} ours: {counts}")
    assert len(ours) >= EACH
    assert wrong


def said(payloads: Sequence[str], right: Sequence[str], known: Known) -> st.SearchStrategy[pb.Envelope]:
    """Envelopes, three of four with a payload that belongs into the queue."""

    @st.composite
    def envelope(draw: st.DrawFn) -> pb.Envelope:
        made = draw(messages(pb.Envelope.DESCRIPTOR, known))
        assert isinstance(made, pb.Envelope)
        if made.message_id in known["message_id"]:
            made.message_id = str(draw(st.uuids(version=4)))
        name = draw(st.sampled_from(right if draw(st.integers(0, 3)) else payloads))
        kind = pb.Envelope.DESCRIPTOR.fields_by_name[name].message_type
        assert kind is not None
        payload = draw(messages(kind, known))
        getattr(made, name).CopyFrom(payload)
        # Answers go to nobody but for a few names that are no queue's.
        if made.reply_to not in ("", "nobody"):
            made.reply_to = draw(st.sampled_from(("", "nobody", "x" * 300, "\0", made.reply_to)))
        return made

    return envelope()


def batches(envelopes: Envelopes) -> Iterator[Envelopes]:
    for begin in range(0, len(envelopes), PER_MESSAGE):
        yield envelopes[begin : begin + PER_MESSAGE]


class Alien(str):
    """Bytes that are no text, where a library takes text only."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return b"\xff\xfe\xc0"


PROPERTIES: Final[Mapping[str, dict[str, Any]]] = {
    "none at all": dict.fromkeys(
        ("content_type", "delivery_mode", "message_id", "timestamp", "message_type", "headers")
    ),
    "another content type": {"content_type": "application/json"},
    "a content type in capitals": {"content_type": CONTENT_TYPE.upper()},
    "a long content type": {"content_type": "x" * 255},
    "another type": {"message_type": "ticketrush.messages.v1.Nothing"},
    "transient": {"delivery_mode": 1},
    "an encoding": {"content_encoding": "gzip"},
    "a priority": {"priority": 255},
    "an answer to nobody": {"reply_to": "nobody", "correlation_id": "\0"},
    "a long message id": {"message_id": "x" * 255},
    "the year 1": {"timestamp": dt.datetime(1970, 1, 1, tzinfo=dt.UTC)},
    "no headers": {"headers": {}},
    "attempts without end": {"headers": {ATTEMPT_HEADER: 2**62}},
    "attempts below none": {"headers": {ATTEMPT_HEADER: -(2**62)}},
    "attempts in words": {"headers": {ATTEMPT_HEADER: "many"}},
    "attempts that are true": {"headers": {ATTEMPT_HEADER: True}},
    "attempts in a table": {"headers": {ATTEMPT_HEADER: {"x": [1, {"y": None}]}}},
    "a long routing key": {"headers": {ROUTING_KEY_HEADER: "x" * 10_000}},
    "a routing key with NUL": {"headers": {ROUTING_KEY_HEADER: "a\0b"}},
    "a routing key in a table": {"headers": {ROUTING_KEY_HEADER: {"x": [1]}}},
    "bytes that are no text": {"headers": {ROUTING_KEY_HEADER: Alien(), "shard": Alien()}},
    "a huge shard": {"headers": {"shard": 2**62}},
    "a shard in words": {"headers": {"shard": "first"}},
    "deaths that never were": {"headers": {"x-death": [{"queue": "elsewhere", "routing-keys": ["x" * 300]}]}},
    "deaths of another kind": {"headers": {"x-death": "often", "x-delivery-count": "often"}},
    "many headers": {"headers": {f"x-{number}": "x" * 100 for number in range(200)}},
}


@each_queue()
async def test_whatever_the_properties_say_the_message_is_set_aside(siege: Siege, queue: WorkQueue) -> None:
    ledge = await Ledge(siege.house, queue).begin()
    sent = {name: pb.Envelope(message_id=f"{name} {new_id()}") for name in PROPERTIES}
    async with siege.goes_on():
        for name, other in PROPERTIES.items():
            await siege.say(queue, pack([sent[name].SerializeToString()]), usual(**other))
        missing: set[str] = set()

        async def all_are_there() -> bool:
            bodies = {body for _, _, body in await ledge.parked()}
            missing.clear()
            missing.update(name for name, one in sent.items() if pack([one.SerializeToString()]) not in bodies)
            return not missing

        await eventually(all_are_there, lambda: f"lost: {sorted(missing)}")


@pytest.mark.parametrize("attempt", [3, 4, 2**31, 2**62])
async def test_what_says_that_it_was_tried_often_enough_is_tried_once_more(siege: Siege, attempt: int) -> None:
    """About a reservation that there is not: a matter for the ladder, were it not for what the header says."""
    [queue] = [queue for queue in QUEUES if queue.name == "reservations.money"]
    ledge = await Ledge(siege.house, queue).begin()
    payment = public.Payment(payment_id=new_id(), reservation_id=new_id(), amount_minor=1)
    envelope = pb.Envelope(message_id=new_id(), payment_approved=pb.PaymentApproved(payment=payment))
    async with siege.goes_on():
        body = pack([envelope.SerializeToString()])
        await siege.say(queue, body, usual(headers={ATTEMPT_HEADER: attempt}))

        async def it_is_there() -> bool:
            return bool(await ledge.parked())

        await eventually(it_is_there, deadline_s=SET_ASIDE_WITHIN_S)
    assert await ledge.parked() == [(envelope.message_id, "ATTEMPTS_EXHAUSTED", body)]


@pytest.mark.parametrize("amount_minor", AMOUNTS)
async def test_an_approval_of_an_amount_that_no_card_pays_is_set_aside_and_no_money_moves(
    siege: Siege, amount_minor: int
) -> None:
    [queue] = [queue for queue in QUEUES if queue.name == "reservations.money"]
    office = siege.house.office
    sold = await siege.sold()
    ledge = await Ledge(siege.house, queue).begin()
    payment = public.Payment(
        payment_id=new_id(), reservation_id=sold.reservation_id, amount_minor=amount_minor, currency="EUR"
    )
    envelope = pb.Envelope(message_id=new_id(), payment_approved=pb.PaymentApproved(payment=payment))
    await siege.say(queue, pack([envelope.SerializeToString()]))

    async def it_is_there() -> bool:
        return bool(await ledge.parked())

    await eventually(it_is_there, deadline_s=SET_ASIDE_WITHIN_S)
    [(_, reason, _)] = await ledge.parked()
    assert reason == "MALFORMED"
    assert await office.reservation(sold) == sold


NO_TEXT: Final[Mapping[str, dict[str, Any]]] = {
    "content type": {"content_type": Alien("x")},
    "message id": {"message_id": Alien("x")},
    "header": {"headers": {Alien("x"): 1}},
    "header and its value": {"headers": {"when": dt.datetime.now(dt.UTC), "x": Alien("x"), Alien("y"): [Alien("x")]}},
}


@each_queue()
async def test_names_that_are_no_text_are_set_aside_too(siege: Siege, queue: WorkQueue) -> None:
    """The broker passes on what our library for its protocol cannot read."""
    ledge = await Ledge(siege.house, queue).begin()
    sent = {pack([pb.Envelope(message_id=new_id()).SerializeToString()]): other for other in NO_TEXT.values()}
    async with siege.goes_on():
        for body, other in sent.items():
            await siege.say(queue, body, usual(**other))

        async def all_are_there() -> bool:
            return sent.keys() <= {body for _, _, body in await ledge.parked()}

        await eventually(all_are_there, lambda: "lost", deadline_s=SET_ASIDE_WITHIN_S)


@pytest.mark.parametrize(
    "nobody", ["x" * 256, "\N{SNOWMAN}" * 100, "\0", "nobody"], ids=["long", "wide", "NUL", "nobody"]
)
async def test_an_answer_that_cannot_be_sent_keeps_no_answer_from_others(siege: Siege, nobody: str) -> None:
    """Both are asked in one message, so that they are answered in one breath."""
    async with siege.house.broker() as channel, listening(channel) as ear:
        asked = [reserve(new_id(), reply_to) for reply_to in (nobody, ear.queue, f"{nobody}!")]
        await say(channel, RESERVATION_REQUESTED, *asked)
        told = await ear.hears(lambda heard: heard.command_id == asked[1].message_id)
    assert told.outcome.reservation.reject_reason == "UNKNOWN_EVENT"


def reserve(event_id: str, reply_to: str) -> pb.Envelope:
    """A command as a gateway says it."""
    reservation_id = new_id()
    command = pb.ReserveTickets(
        reservation_id=reservation_id,
        request_id=new_id(),
        event_id=event_id,
        buyer_id="mallory",
        ticket_ids=[new_id()],
    )
    envelope = pb.Envelope(message_id=new_id(), subject_id=reservation_id, reply_to=reply_to, reserve_tickets=command)
    envelope.occur_time.GetCurrentTime()
    return envelope
