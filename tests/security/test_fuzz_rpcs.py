"""Every RPC of every port, called with what no caller of good will sends. `make proof-fuzz` goes on for longer.

The RPCs come from the descriptors, so that a new one is attacked without anybody's doing.
"""

import itertools
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, Phase, given, seed, settings

from chassis.callers import Caller
from chassis.paging import PageTokens
from chassis.tls import Tls, called, channel_credentials
from contract import access
from deploy.services import certificate_files
from deploy.stack import Stack
from tests.e2e import ledgers
from tests.e2e.house import SERVICES, House
from tests.security.census import Registry, changes, registry
from tests.security.descriptors import full_name, ours
from tests.security.hostile import Known, Wire, fresh_ids, garble, wire
from ticketrush.v1 import catalog_pb2 as catalog

SECONDS: Final = float(os.environ.get("FUZZ_SECONDS", "8"))
# A run so long has got every RPC to answer OK now and then, or it knocks at a door that it cannot open.
LONG_FROM_S: Final = 120
# Of one round, after which the time is looked at.
CALLS: Final = 5
CALL_TIMEOUT_S: Final = 35.0
DECISION_WAIT_S: Final = 30
START_S: Final = 200

BROKEN: Final = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
    # Everything is up, and waits for less than that.
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
POSITIONS: Final = (
    "garbage",
    "-1",
    "9" * 40,
    "2026-01-01T00:00:00+00:00 x",
    "2026-13-01T00:00:00+00:00 12345678-1234-5678-1234-567812345678",
)
_READS: Final = ("Get", "List", "Watch", "Check", "ServerReflectionInfo")
_OWN_PORT: Final = {"ticketrush.provider.v1": "provider", "ticketrush.reservations.v1": "reservations"} | {
    "ticketrush.payments.v1": "payments"
}
_REFLECTION: Final = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].methods[0]


@dataclass(frozen=True)
class Target:
    """An RPC at the port of a service, called by one who may."""

    port: str
    method: Any
    name: str
    peer: str = ""

    def __str__(self) -> str:
        return f"{self.port}-{self.name.rpartition('/')[2]}{'-alpha' * ('v1alpha' in self.name)}"

    @property
    def reads(self) -> bool:
        return self.name.rpartition("/")[2].startswith(_READS)


def _targets() -> Iterator[Target]:
    for method in ours():
        name = full_name(method)
        if method.containing_service.file.package == "ticketrush.v1":
            yield Target("gateway", method, name)
            # Whoever the peers are that pass it on, one of these answers it; the other one must refuse it in order.
            for port in ("reservations", "payments") if access.TABLE[name].peers else ():
                yield Target(port, method, name, peer=min(access.TABLE[name].peers))
        else:
            yield Target(_OWN_PORT[method.containing_service.file.package], method, name, min(access.TABLE[name].peers))
    for port in SERVICES:
        peer = "" if port == "gateway" else "operator"
        for shared in health_pb2.DESCRIPTOR.services_by_name["Health"].methods:
            yield Target(port, shared, full_name(shared), peer)
        for version in ("v1", "v1alpha"):
            yield Target(port, _REFLECTION, f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo", peer)


# The scheduler's first: it sleeps while the others are called.
TARGETS: Final = sorted(_targets(), key=lambda target: target.port != "scheduler")


@dataclass
class Siege:
    """One stack under attack, and what has been seen of it."""

    house: House
    registry: Registry
    known: Known
    lines: dict[tuple[str, str], grpc.Channel] = field(default_factory=dict)
    codes: dict[Target, Counter[str]] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    scheduler_sleeps: bool = False

    def __post_init__(self) -> None:
        self.pids = {name: self.house.stack.pid(name) for name in SERVICES}
        self.stored = self.registry.at_rest()

    def put_scheduler_to_sleep(self) -> None:
        """What time makes due is nobody's call, and would look like somebody's trace."""
        if not self.scheduler_sleeps:
            self.house.freeze("scheduler")
            self.scheduler_sleeps = True

    def line(self, target: Target) -> grpc.Channel:
        """The way of one who may call this."""
        way = (target.port, target.peer)
        if way not in self.lines:
            self.lines[way] = _line(self.house.stack, *way)
        return self.lines[way]

    def call(self, target: Target, body: bytes) -> None:
        """Calls with these bytes; fails unless it is answered, or refused in order and without a trace."""
        code = self._answer(target, body)
        self.codes.setdefault(target, Counter())[code.name] += 1
        assert code not in BROKEN, code
        if code is grpc.StatusCode.OK and not target.reads:
            self._decided(target, _message(target, body))
            self.stored = self.registry.at_rest()
            return
        before, self.stored = self.stored, self.registry.take()
        assert not changes(before, self.stored), f"{code} left its traces"

    def _decided(self, target: Target, accepted: Any) -> None:
        """Returns when a command that was accepted, perhaps without waiting, has been decided: says it again."""
        if "wait" in accepted.DESCRIPTOR.fields_by_name:
            accepted.wait.FromSeconds(DECISION_WAIT_S)
            assert self._answer(target, accepted.SerializeToString()) not in BROKEN

    def _answer(self, target: Target, body: bytes) -> grpc.StatusCode:
        line: Any = self.line(target)  # its stubs know no call of bytes
        metadata = self._metadata(target)
        try:
            if target.method.client_streaming:
                self._first(line.stream_stream(target.name)(iter([body]), timeout=CALL_TIMEOUT_S, metadata=metadata))
            elif target.method.server_streaming:
                self._first(line.unary_stream(target.name)(body, timeout=CALL_TIMEOUT_S, metadata=metadata))
            else:
                line.unary_unary(target.name)(body, timeout=CALL_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def _first(self, call: Any) -> None:
        """A stream has been taken up once it says something, or ends."""
        next(call, None)
        call.cancel()

    def _metadata(self, target: Target) -> tuple[tuple[str, str], ...]:
        if target.port == "gateway":
            return (("authorization", f"Bearer {self.house.stack.operator_token}"),)
        return Caller("mallory", frozenset({"operator"})).metadata

    def stands(self, name: str) -> None:
        """Fails unless the process is the one of before, and has found nothing wrong with itself."""
        assert self.house.stack.pid(name) == self.pids[name], f"{name} has ended:\n{self.house.log_tail(name)}"
        lines = self.house.stack.log(name).read_text().splitlines()
        new, self.read[name] = lines[self.read.get(name, 0) :], len(lines)
        assert not [line for line in new if json.loads(line)["level"] in ("ERROR", "CRITICAL")]


def _line(stack: Stack, port: str, peer: str) -> grpc.Channel:
    direct = ("grpc.enable_http_proxy", 0)
    if not peer:
        return grpc.insecure_channel(stack.address(port), options=[direct])
    credentials = channel_credentials(Tls(*certificate_files(stack.run_dir / "tls", peer)).current())
    return grpc.secure_channel(stack.address(port), credentials, options=[direct, called(port)])


def fields(target: Target) -> set[str]:
    return set(target.method.input_type.fields_by_name)


def _message(target: Target, body: bytes) -> Any:
    """Raises DecodeError for what should never have been taken up."""
    return GetMessageClass(target.method.input_type).FromString(body)


@pytest.fixture(scope="module")
async def siege(house: House) -> AsyncIterator[Siege]:
    office = house.office
    sale = await office.put_on_sale(40, hold_s=24 * 3_600)
    other = await office.put_on_sale(3)
    sold = await office.buy(sale, "ada", sale.tickets[:1])
    held = [await office.held(sale, "mallory", [ticket]) for ticket in sale.tickets[1:5]]
    await house.settled()
    paid = (await office.payments(sold))[0]
    event = await office.event(other.event_id)
    for name in ("event_id", "state", "available_count", "held_count", "sold_count", "create_time", "version"):
        event.ClearField(name)
    event.ClearField("organiser_id")
    existing = catalog.Event(event_id=other.event_id, name="Lear")
    known: dict[str, list[Any]] = {
        "event_id": [sale.event_id, sale.event_id, other.event_id, *fresh_ids(1)],
        "reservation_id": [sold.reservation_id, *(one.reservation_id for one in held), *fresh_ids(1)],
        "payment_id": [paid.payment_id, *fresh_ids(3)],
        "payment_ids": [paid.payment_id, *fresh_ids(3)],
        "ticket_ids": [*sale.tickets, *other.tickets, *fresh_ids(1)],
        "buyer_id": ["mallory"],
        "currency": ["EUR"],
        "payment_method": ["pm_card_ok", "pm_card_declined"],
        "amount_minor": [1, 0, 100],
        "section": ["stalls", "a new one"],
        "price_minor": [0, 1],
        "quantity": [1, 2],
        "rows": [1],
        "seats_per_row": [1, 2],
        "row": ["A", "B", "C"],
        "seat": ["1", "2", "3"],
        "reason": ["it rains"],
        "name": ["Lear"],
        "venue": [""],
        "event": [event, existing],
        "update_mask": [FieldMask(paths=["name"]), FieldMask(paths=["venue", "start_time"])],
        "wait": [Duration(), Duration(seconds=1)],
        "page_size": [0, 1, 500],
        "page_token": [""],
        "service": ["", "ticketrush.v1.TicketingService"],
        "state": [0, 1],
    }
    try:
        with registry(house.stack) as books:
            siege = Siege(house, books, known)
            yield siege
            for line in siege.lines.values():
                line.close()
            kept = {name: sql for name, sql in ledgers.INVARIANTS.items() if "statement" not in name}
            # A peer that is trusted opens and charges what nobody asked for: that money is not looked for here.
            kept = {name: sql for name, sql in kept.items() if not name.startswith("2.")}
            async with house.database() as conn:
                await ledgers.prepare(conn, (), ())
                assert not await ledgers.found(conn, kept)
    finally:
        house.thaw("scheduler")


def _attack(siege: Siege, target: Target, bodies: Wire, share: float) -> None:
    """For as long as this one's share of the time is, each round with calls of its own, the same in every run."""

    @settings(
        max_examples=CALLS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(body=bodies)
    def round_of_calls(body: bytes) -> None:
        siege.call(target, body)

    end = time.monotonic() + SECONDS * share
    for number in itertools.count():
        seed(number)(round_of_calls)()
        if time.monotonic() > end:
            break


KINDS: Final[dict[str, Callable[[Any, Known], Wire]]] = {"hostile messages": wire, "garbled bytes": garble}


@pytest.mark.timeout(SECONDS + START_S)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_whatever_it_is_called_with_it_answers_in_order_and_keeps_what_it_has(
    siege: Siege, target: Target, kind: str
) -> None:
    if target.port != "scheduler":
        siege.put_scheduler_to_sleep()
    _attack(siege, target, KINDS[kind](target.method.input_type, siege.known), 1 / len(TARGETS) / len(KINDS))
    siege.stands(target.port)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("target", [target for target in TARGETS if "page_token" in fields(target)], ids=str)
def test_a_forged_page_token_is_refused_whatever_it_says(siege: Siege, target: Target, position: str) -> None:
    """The secret of page tokens is none: it keeps nobody out, and is in the code."""
    siege.put_scheduler_to_sleep()
    event_id, reservation_id = siege.known["event_id"][0], siege.known["reservation_id"][0]
    of = {
        "ListEvents": ({}, "ListEvents"),
        "ListTickets": ({"event_id": event_id}, f"ListTickets event={event_id} state="),
        "ListReservations": ({"event_id": event_id}, f"ListReservations buyer= event={event_id}"),
        "ListPayments": ({"reservation_id": reservation_id}, f"ListPayments {reservation_id} "),
        "ListCharges": ({}, "ListCharges"),
    }
    asked, filters = of[target.method.name]
    request = GetMessageClass(target.method.input_type)(**asked, page_token=PageTokens().encode(filters, position))
    before = siege.codes.get(target, Counter()).copy()
    siege.call(target, request.SerializeToString())
    told = siege.codes[target] - before
    assert told <= Counter(INVALID_ARGUMENT=1, UNIMPLEMENTED=1), told


def test_every_process_has_stood_it_and_every_door_was_found(
    siege: Siege, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    siege.put_scheduler_to_sleep()
    for name in set(SERVICES) - {"scheduler"}:
        siege.stands(name)
        assert siege.house.stack.is_serving(name), siege.house.log_tail(name)
    if SECONDS >= LONG_FROM_S:
        with capsys.disabled():
            for target, codes in siege.codes.items():
                pytestconfig.get_terminal_writer().line(f"{target}: {dict(codes.most_common())}")
    answered = {target.name for target, codes in siege.codes.items() if codes[grpc.StatusCode.OK.name]}
    never = sorted({target.name for target in siege.codes} - answered)
    assert not never or SECONDS < LONG_FROM_S, f"never answered OK, so hardly attacked: {never}"
