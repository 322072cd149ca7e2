"""Words of others stay words: to the database, in the logs, and at an operator's terminal."""

import asyncio
import json
import unicodedata
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from hpack import Encoder
from hpack.struct import NeverIndexedHeaderTuple
from hyperframe.frame import RstStreamFrame

from chassis.batch import pack
from tests.e2e.house import SERVICES, House, connected
from tests.e2e.office import Sale, eventually, new_id, reserve_request
from tests.e2e.wire import say_bytes
from tests.ops.desk import Desk
from tests.security import http2_attacks
from tests.security.census import Census, registry
from tests.security.hostile import SQL
from tests.security.test_access_matrix import METHODS, REQUESTS, Things, Town
from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

FORGED: Final = {"level": "CRITICAL", "message": "forged"}
# What would be a line, a field or a command of its own, where it is not kept from it.
ACTING: Final = (
    f"\n{json.dumps(FORGED)}\n",
    f"\r\n{json.dumps(FORGED)}",
    f"\N{LINE SEPARATOR}{json.dumps(FORGED)}\N{PARAGRAPH SEPARATOR}",
    f"\N{NEXT LINE}{json.dumps(FORGED)}",
    f'", {json.dumps(FORGED)[1:-1]}, "x": "',
    "\x1b[2J\x1b]0;forged\x07\x1b[31m",
    "\x9b31m\b\b\b\x7f",
    "\N{RIGHT-TO-LEFT OVERRIDE}degrof",
    "%s %(message)s {0} ${x}",
    "\0",
)
# Fields whose words are for people; the others take ids and names of a narrow kind.
WORDS: Final = {"name", "venue", "reason", "section", "row", "seat"}
LEVELS: Final = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
PARKED_WITHIN_S: Final = 60.0
REFUSED_WITHIN_S: Final = 60.0
_JOINERS: Final = "\u200c\u200d"


@pytest.fixture(scope="module")
async def town(house: House) -> AsyncIterator[Town]:
    async with connected(house.stack.address("gateway")) as line:
        yield Town(house, line)


@pytest.fixture(scope="module")
async def things(town: Town) -> Things:
    return await town.things()


@pytest.fixture(scope="module")
def desk(house: House) -> Desk:
    return Desk(house.stack.env).without("DATABASE_URL", "AMQP_URL")


def string_fields(message: Message, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The way to each text in a message, through messages that it has or could have."""
    found: list[tuple[str, ...]] = []
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            found.append((*path, field.name))
        elif field.message_type is not None and field.message_type.file.package == "ticketrush.v1":
            below = getattr(message, field.name)
            inner = below.add() if field.is_repeated and not below else below[0] if field.is_repeated else below
            found += string_fields(inner, (*path, field.name))
    return found


def put(message: Message, path: tuple[str, ...], text: str) -> None:
    """Replaces the text at the end of the way."""
    *way, last = path
    at: Any = message
    for name in way:
        step = getattr(at, name)
        at = step if isinstance(step, Message) else step[0] if step else step.add()
    if isinstance(getattr(at, last), str):
        setattr(at, last, text)
    else:
        getattr(at, last)[:] = [text]


def with_text(rpc: str, things: Things, path: tuple[str, ...], text: str) -> Message:
    """A request that is right but for this."""
    request = REQUESTS[rpc](things)
    if "request_id" in METHODS[rpc].input_type.fields_by_name:
        request.request_id = new_id()  # type: ignore[attr-defined] # it has one
    put(request, path, text)
    return request


def places() -> list[tuple[str, tuple[str, ...]]]:
    """Every RPC of the public contract, with every text that it takes."""
    nothing = Things(Sale("", ["", "", ""]), pb.Reservation(), pb.Reservation(), pb.Payment())
    return [(rpc, path) for rpc in METHODS for path in string_fields(REQUESTS[rpc](nothing))]


PLACES: Final = places()


async def ask(town: Town, rpc: str, request: Message) -> grpc.StatusCode:
    """As one who may do everything."""
    method = METHODS[rpc]
    line: Any = town.line
    metadata = (("authorization", f"Bearer {town.token('root')}"),)
    kind = line.unary_stream if method.server_streaming else line.unary_unary
    call = kind(f"/{method.containing_service.full_name}/{rpc}")(
        request.SerializeToString(), metadata=metadata, timeout=30
    )
    try:
        if method.server_streaming:
            await call.read()
            call.cancel()
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def is_smaller(before: Census, after: Census) -> list[str]:
    """Tables that are gone, or have fewer rows."""
    return [name for name in before if name not in after or after[name][0] < before[name][0]]


@pytest.mark.parametrize(("rpc", "path"), PLACES, ids=lambda part: part if isinstance(part, str) else ".".join(part))
async def test_sql_in_any_text_is_a_text(town: Town, things: Things, rpc: str, path: tuple[str, ...]) -> None:
    with registry(town.house.stack) as books:
        before = await asyncio.to_thread(books.at_rest)
        for text in SQL:
            code = await ask(town, rpc, with_text(rpc, things, path, text))
            allowed = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
            if path[-1] in WORDS:
                # Whatever becomes of the call: the words were no reason to refuse it, or were too long.
                allowed |= {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ALREADY_EXISTS}
            assert code in allowed, (text, code)
        # The outbox grows shorter by itself.
        kept = {name: rows for name, rows in before.items() if not name.endswith(".outbox")}
        assert not is_smaller(kept, await asyncio.to_thread(books.take))


@pytest.mark.parametrize("text", SQL)
async def test_sql_in_names_is_stored_and_given_back_as_it_was(town: Town, text: str) -> None:
    office = town.office("root")
    event = catalog.Event(name=text, venue=text, currency="EUR")
    made = (await office.catalog.CreateEvent(catalog.CreateEventRequest(request_id=new_id(), event=event))).event
    seat = catalog.Seat(row=text[:16], seat=text[-16:])
    block = catalog.Block(section=text, price_minor=1, seats=catalog.Seats(seats=[seat]))
    await office.catalog.CreateTickets(
        catalog.CreateTicketsRequest(request_id=new_id(), event_id=made.event_id, blocks=[block])
    )
    renamed = catalog.Event(event_id=made.event_id, name=f"{text} again")
    await office.catalog.UpdateEvent(
        catalog.UpdateEventRequest(request_id=new_id(), event=renamed, update_mask=FieldMask(paths=["name"]))
    )
    shown = await office.event(made.event_id)
    assert (shown.name, shown.venue) == (f"{text} again", text)
    [ticket] = await office.tickets(made.event_id)
    assert (ticket.section, ticket.row, ticket.seat) == (text, text[:16], text[-16:])
    request = reserve_request(Sale(made.event_id, [ticket.ticket_id]), "ada")
    request.ClearField("ticket_ids")
    request.best_available.CopyFrom(pb.BestAvailable(section=text, quantity=1))
    reserved = (await office.ticketing.Reserve(request, timeout=40)).reservation
    assert [held.section for held in reserved.tickets] == [text]
    paid = await office.pay(reserved, card=text)
    assert paid.payment.decline_reason == "UNKNOWN_PAYMENT_METHOD"


@pytest.mark.parametrize("text", SQL[:3])
async def test_sql_in_what_an_operator_types_is_a_text(town: Town, desk: Desk, text: str) -> None:
    house = town.house
    with registry(house.stack) as books:
        before = await asyncio.to_thread(books.at_rest)
        for typed in (
            await desk.type("parked", "list", "--queue", text, "--json"),
            await desk.change("parked", "discard", "--queue", text, reason=text),
            await desk.change("forget-buyer", text, reason=text),
        ):
            assert typed.code in (0, 1, 2), typed
            assert "Traceback" not in typed.err
        assert not is_smaller(before, await asyncio.to_thread(books.take))
        for key in (name for name in before if name.endswith((".ticket", ".reservation", ".payment"))):
            assert (await asyncio.to_thread(books.take))[key] == before[key]


@pytest.mark.parametrize(("rpc", "path"), PLACES, ids=lambda part: part if isinstance(part, str) else ".".join(part))
async def test_no_text_of_a_call_makes_a_line_of_the_log(
    town: Town, things: Things, rpc: str, path: tuple[str, ...]
) -> None:
    for text in ACTING:
        await ask(town, rpc, with_text(rpc, things, path, text))
    check_logs(town.house)


async def test_nothing_else_of_a_call_makes_a_line_of_the_log(house: House) -> None:
    """Its path, its token, its headers, also too many of them."""
    address = house.stack.address("gateway")
    host, _, port = address.rpartition(":")
    for text in ACTING:
        plain = text.encode("utf-8", "replace").decode("latin-1")
        line = await http2_attacks.dial((host, int(port)))
        try:
            await line.send(http2_attacks.greeting())
            for path in (f"/{plain}", f"/ticketrush.v1.TicketingService/{plain}"):
                await line.send(http2_attacks.opened(line.stream_id(), raw_request(path, plain)))
        except OSError:
            # It was hung up on for the first already.
            pass
        finally:
            line.writer.transport.abort()
    line = await http2_attacks.dial((host, int(port)))
    try:
        await line.send(http2_attacks.greeting(), http2_attacks.planted(line.stream_id()))
        await line.send(*http2_attacks.bomb(line.stream_id()))
        async with asyncio.timeout(REFUSED_WITHIN_S):
            await http2_attacks.hears(line, RstStreamFrame)
    finally:
        line.writer.transport.abort()
    await house.office.put_on_sale()
    check_logs(house)


def raw_request(path: str, words: str) -> bytes:
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", words),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("authorization", f"Bearer {words}"),
        ("x-forwarded-for", words),
        ("user-agent", words),
    ]
    encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in fields]
    return Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in encoded])


async def test_no_text_of_a_message_makes_a_line_of_the_log_or_acts_at_the_terminal(house: House, desk: Desk) -> None:
    """What is parked is logged, and shown to operators."""
    marks = []
    async with house.broker() as channel:
        for text in ACTING:
            mark = new_id()
            payment = pb.Payment(payment_id=f"{text}{mark}", reservation_id=text, currency=text)
            poison = messages.Envelope(
                message_id=f"{mark}{text}",
                subject_id=text,
                traceparent=text,
                command_id=text,
                payment_approved=messages.PaymentApproved(payment=payment),
            )
            await say_bytes(channel, "ticket.payments.approved", pack([poison.SerializeToString()]))
            await say_bytes(channel, "ticket.payments.approved", mark.encode(), content_type=f"{text}/{mark}"[:250])
            marks.append(mark)

    async def all_are_parked() -> bool:
        sql = "SELECT count(*) FROM reservations.parked_message WHERE queue = 'reservations.money' AND state = 'PARKED'"
        return await house.rows(sql) == [(2 * len(marks),)]

    await eventually(all_are_parked, deadline_s=PARKED_WITHIN_S)
    check_logs(house)
    listed = await desk.look("parked", "list")
    shown = [await desk.type("parked", "list"), await desk.type("fsck")]
    # Each costs a second: those that any terminal obeys.
    obeyed = [one for one in listed if {"\x1b", "\x9b", "\u202e"} & set(one["subject_id"] + one["content_type"])]
    assert len(obeyed) >= 6
    shown += [await desk.type("parked", "show", one["id"]) for one in obeyed]
    shown.append(await desk.change("parked", "discard", "--queue", "reservations.money", reason="a drill"))
    for typed in shown:
        assert not acting(typed.out), typed
        assert not acting(typed.err), typed


async def test_what_operators_type_is_kept_and_does_nothing_to_a_terminal(desk: Desk, house: House) -> None:
    storable = [text for text in ACTING if "\0" not in text]
    for text in storable:
        audit = """INSERT INTO reservations.audit_entry (operator, action, subject, reason, detail)
                   VALUES (%s, %s, %s, %s, '{}')"""
        await house.rows(audit, text, text, text, text)
    everything = "".join(storable)
    for typed in (
        await desk.type("audit", "--limit", str(len(storable))),
        await desk.type("parked", "show", everything),
        await desk.type("watch", everything),
        await desk.change("forget-buyer", everything, reason=everything),
    ):
        assert not acting(typed.out), typed
        assert not acting(typed.err), typed
    told = await desk.look("audit", "--limit", str(len(storable)))
    assert {one["reason"] for one in told} == set(storable)


_read: Final[dict[str, int]] = {}


def check_logs(house: House) -> None:
    """What was logged since the last look: each line is one JSON object, and its words are the service's own."""
    for name in SERVICES:
        with house.stack.log(name).open("rb") as log:
            begin = log.seek(_read.get(name, 0))
            # The last one may be half of one yet. Not splitlines(): that takes for lines what only a terminal does.
            whole, newline, _ = log.read().rpartition(b"\n")
            _read[name] = begin + len(whole) + len(newline)
        for line in filter(None, whole.split(b"\n")):
            entry = json.loads(line)
            assert entry["level"] in LEVELS
            assert entry["service"] == name
            assert entry["message"] != FORGED["message"]


def acting(text: str) -> list[str]:
    """Characters that would do something to a terminal."""
    return [
        character
        for character in text
        if character != "\n"
        and character not in _JOINERS
        and unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"}
    ]
