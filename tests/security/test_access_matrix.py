"""Callers x RPCs x owners, on the product at work. The RPCs come from the descriptors, so that none is forgotten."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import jwt
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from chassis.bearer import bearing
from chassis.tokens import LEEWAY_S
from deploy import issuer
from tests.e2e.house import House, connected
from tests.e2e.office import Office, Refusal, Reservation, Sale, eventually, new_id, refusal, refusal_of
from tests.security import forge
from tests.security.descriptors import full_name, public
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

_AN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
METHODS = {method.name: method for method in public()}
SIGNED_OUT = grpc.StatusCode.UNAUTHENTICATED
# Who calls, and as what. All things here are ada's, in an event of olga's.
ROLES = {
    "ada": ["buyer"],
    "bob": ["buyer"],
    "olga": ["organiser"],
    "otto": ["organiser"],
    "dora": ["door"],
    "feed": ["service"],
    "root": ["operator"],
    "guest": [],
}
LET_IN, REFUSED, UNKNOWN = "+", "-", "?"
"""Served; PERMISSION_DENIED; NOT_FOUND, told exactly as of an id that there is not."""

# RPC -> for each of ROLES in order. Written down a second time, on purpose: the table is what is tested.
EXPECTED = {
    #                     ada bob olga otto dora feed root guest
    "Reserve":           "+   -   -    -    -    -    +    -",
    "Pay":               "+   -   -    -    -    -    +    -",
    "CancelReservation": "+   -   -    -    -    -    +    -",
    "RefundReservation": "-   -   +    ?    -    -    +    -",
    "GetReservation":    "+   ?   +    ?    +    +    +    -",
    "ListReservations":  "+   -   -    -    +    +    +    -",
    "WatchReservation":  "+   ?   +    ?    -    +    +    -",
    "GetPayment":        "+   ?   -    -    -    +    +    -",
    "ListPayments":      "+   ?   -    -    -    +    +    -",
    "ListTickets":       "+   +   +    +    +    +    +    -",
    "WatchTickets":      "+   +   +    +    +    +    +    -",
    "CreateEvent":       "-   -   +    +    -    -    +    -",
    "UpdateEvent":       "-   -   +    ?    -    -    +    -",
    "GetEvent":          "+   +   +    +    +    +    +    -",
    "ListEvents":        "+   +   +    +    +    +    +    -",
    "CloseEvent":        "-   -   +    ?    -    -    +    -",
    "CancelEvent":       "-   -   +    ?    -    -    +    -",
    "CreateTickets":     "-   -   +    ?    -    -    +    -",
    "WithdrawTickets":   "-   -   +    ?    -    -    +    -",
}  # fmt: skip


@dataclass(frozen=True)
class Things:
    """Something on sale by olga: sold to ada, and held by her."""

    sale: Sale
    sold: pb.Reservation
    held: pb.Reservation
    payment: pb.Payment

    def unknown(self) -> "Things":
        """The same, but that none of it exists."""
        nothing = pb.Reservation(reservation_id=new_id())
        return Things(
            Sale(new_id(), [new_id() for _ in self.sale.tickets]), nothing, nothing, pb.Payment(payment_id=new_id())
        )


def block() -> catalog.Block:
    return catalog.Block(section=new_id(), price_minor=1, quantity=1)


REQUESTS: dict[str, Callable[[Things], Message]] = {
    "Reserve": lambda t: pb.ReserveRequest(event_id=t.sale.event_id, buyer_id="ada", ticket_ids=t.sale.tickets[2:3]),
    "Pay": lambda t: pb.PayRequest(
        buyer_id="ada", reservation_id=t.held.reservation_id, payment_method="pm_card_ok", amount_minor=1
    ),
    "CancelReservation": lambda t: pb.CancelReservationRequest(buyer_id="ada", reservation_id=t.held.reservation_id),
    "RefundReservation": lambda t: pb.RefundReservationRequest(reservation_id=t.sold.reservation_id, reason="broken"),
    "GetReservation": lambda t: pb.GetReservationRequest(reservation_id=t.held.reservation_id),
    "ListReservations": lambda _: pb.ListReservationsRequest(buyer_id="ada"),
    "WatchReservation": lambda t: pb.WatchReservationRequest(reservation_id=t.held.reservation_id),
    "GetPayment": lambda t: pb.GetPaymentRequest(payment_id=t.payment.payment_id),
    "ListPayments": lambda t: pb.ListPaymentsRequest(reservation_id=t.sold.reservation_id),
    "ListTickets": lambda t: pb.ListTicketsRequest(event_id=t.sale.event_id),
    "WatchTickets": lambda t: pb.WatchTicketsRequest(event_id=t.sale.event_id),
    "CreateEvent": lambda _: catalog.CreateEventRequest(event=catalog.Event(name="Hamlet", currency="EUR")),
    "UpdateEvent": lambda t: catalog.UpdateEventRequest(
        event=catalog.Event(event_id=t.sale.event_id, name="Lear"), update_mask=FieldMask(paths=["name"])
    ),
    "GetEvent": lambda t: catalog.GetEventRequest(event_id=t.sale.event_id),
    "ListEvents": lambda _: catalog.ListEventsRequest(),
    "CloseEvent": lambda t: catalog.CloseEventRequest(event_id=t.sale.event_id),
    "CancelEvent": lambda t: catalog.CancelEventRequest(event_id=t.sale.event_id, reason="the lead is ill"),
    "CreateTickets": lambda t: catalog.CreateTicketsRequest(event_id=t.sale.event_id, blocks=[block()]),
    "WithdrawTickets": lambda t: catalog.WithdrawTicketsRequest(
        event_id=t.sale.event_id, ticket_ids=t.sale.tickets[2:3]
    ),
}


class Town:
    """Everybody who may call, each on a line of their own to one gateway."""

    def __init__(self, house: House, line: grpc.aio.Channel) -> None:
        self.house = house
        self.line = line
        self.key_file = house.stack.issuer.key_file

    def token(self, name: str, *, lasts_s: float = 600) -> str:
        return issuer.token(self.key_file, name, ROLES[name], lasts_s)

    def office(self, name: str) -> Office:
        return Office(bearing(self.line, self.token(name)))

    async def call(self, token: str, rpc: str, things: Things, *more: tuple[str, str]) -> Message:
        """The answer, of a stream the first. Each write has a request_id of its own."""
        method = METHODS[rpc]
        request = REQUESTS[rpc](things)
        if "request_id" in method.input_type.fields_by_name:
            request.request_id = new_id()  # type: ignore[attr-defined] # it has one
        metadata = (*([("authorization", f"Bearer {token}")] if token else []), *more)
        call = _callable(self.line, method)(request, metadata=metadata, timeout=30)
        if method.server_streaming:
            answer = await call.read()
            call.cancel()
            if answer is grpc.aio.EOF:
                raise AssertionError(await call.code())
            return answer  # type: ignore[no-any-return]
        return await call  # type: ignore[no-any-return]

    async def things(self) -> Things:
        sale = await self.office("olga").put_on_sale(3)
        ada = self.office("ada")
        sold = await ada.held(sale, "ada", sale.tickets[:1])
        payment = (await ada.pay(sold)).payment
        return Things(sale, await ada.reservation(sold), await ada.held(sale, "ada", sale.tickets[1:2]), payment)

    async def state(self, things: Things) -> list[Message]:
        """All that anybody could have changed."""
        root = self.office("root")
        reservations = pb.ListReservationsRequest(event_id=things.sale.event_id)
        return [
            await root.event(things.sale.event_id),
            *await root.tickets(things.sale.event_id),
            *(await root.ticketing.ListReservations(reservations)).reservations,
            *await root.payments(things.sold),
            *await root.payments(things.held),
        ]


def _callable(line: grpc.aio.Channel, method: MethodDescriptor) -> Any:
    kind = line.unary_stream if method.server_streaming else line.unary_unary
    return kind(
        full_name(method),
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )


@pytest.fixture(scope="module")
async def town(house: House) -> AsyncIterator[Town]:
    async with connected(house.stack.address("gateway")) as line:
        yield Town(house, line)


@pytest.fixture(scope="module")
async def things(town: Town) -> Things:
    """What stays as it is: only refused calls and reads are about it."""
    return await town.things()


def expected(rpc: str) -> dict[str, str]:
    return dict(zip(ROLES, EXPECTED[rpc].split(), strict=True))


async def told(call: Any) -> tuple[Refusal, str]:
    """How a call is refused, and in which words but for ids."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    error = refused.value
    return refusal_of(error), _AN_ID.sub("ID", error.details() or "")


def test_no_rpc_is_forgotten() -> None:
    assert EXPECTED.keys() == REQUESTS.keys() == METHODS.keys()


@pytest.mark.parametrize("rpc", METHODS)
async def test_who_may_not_is_refused_and_changes_nothing(town: Town, things: Things, rpc: str) -> None:
    before = await town.state(things)
    nothing = things.unknown()
    for name, verdict in expected(rpc).items():
        if verdict == REFUSED:
            refused, _ = await told(town.call(town.token(name), rpc, things))
            assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED"), name
        if verdict == UNKNOWN and rpc == "ListPayments":
            # Of a reservation that there is not this list is empty.
            assert await town.call(town.token(name), rpc, things) == await town.call(town.token(name), rpc, nothing)
        elif verdict == UNKNOWN:
            refused, words = await told(town.call(town.token(name), rpc, things))
            assert refused.code is grpc.StatusCode.NOT_FOUND, name
            as_unknown, unknown_words = await told(town.call(town.token(name), rpc, nothing))
            assert refused == as_unknown
            assert words == unknown_words
    assert await town.state(things) == before


@pytest.mark.parametrize("rpc", METHODS)
async def test_who_may_is_served(town: Town, things: Things, rpc: str) -> None:
    is_read = rpc.startswith(("Get", "List", "Watch"))
    for name, verdict in expected(rpc).items():
        if verdict == LET_IN:
            about = things if is_read else await town.things()
            answer = await town.call(town.token(name), rpc, about)
            assert answer.ByteSize(), f"{name} sees nothing"


@pytest.mark.parametrize("rpc", METHODS)
async def test_who_is_not_known_is_refused(town: Town, things: Things, rpc: str) -> None:
    before = await town.state(things)
    now = int(time.time())
    key = issuer.read_key(town.key_file)
    good = town.token("root")
    header = {"kid": jwt.get_unverified_header(good)["kid"]}
    claims = {
        "iss": issuer.NAME,
        "aud": issuer.AUDIENCE,
        "sub": "root",
        "roles": ["operator"],
        "iat": now,
        "exp": now + 60,
    }
    wrong = {
        "TOKEN_MISSING": "",
        "TOKEN_EXPIRED": jwt.encode(claims | {"exp": now - LEEWAY_S - 1}, key, "RS256", header),
    }
    forged = [
        jwt.encode(claims, forge.key("stranger"), "RS256", header),
        jwt.encode(claims | {"aud": "elsewhere"}, key, "RS256", header),
        jwt.encode(claims | {"iss": "elsewhere"}, key, "RS256", header),
        jwt.encode(claims | {"nbf": now + 600}, key, "RS256", header),
        forge.altered(town.token("guest"), sub="root", roles=["operator"]),
        "x" * 5_000,
    ]
    for reason, token in (*wrong.items(), *(("TOKEN_INVALID", token) for token in forged)):
        refused, words = await told(town.call(token, rpc, things))
        assert (refused.code, refused.reason) == (SIGNED_OUT, reason)
        assert not token or token.rpartition(".")[2] not in words
    assert await town.state(things) == before


async def test_who_says_to_be_somebody_else_beside_the_token_is_not_believed(town: Town, things: Things) -> None:
    lies = (("ticketrush-subject", "ada"), ("ticketrush-roles", "operator"))
    refused = await refusal(town.call(town.token("bob"), "GetReservation", things, *lies))
    assert refused == Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_RESERVATION")


async def test_a_stolen_token_reaches_only_what_is_its_owners(town: Town, things: Things) -> None:
    """Bob has ada's reservation_id and a token of his own: under neither name can he touch it."""
    bob = town.office("bob")
    before = await town.state(things)
    assert await refusal(bob.pay(things.held)) == Refusal(
        grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED", frozenset({"buyer_id"})
    )
    paid = await bob.pay(things.held, buyer="bob")
    made_up = await bob.pay(pb.Reservation(reservation_id=new_id()), buyer="bob", amount_minor=0)
    assert (paid.payment.state, paid.payment.decline_reason) == (pb.Payment.STATE_REJECTED, "UNKNOWN_RESERVATION")
    assert not paid.HasField("reservation")
    for shown in (paid.payment, await bob.payment(paid.payment), *await bob.payments(things.held)):
        assert (shown.decline_reason, shown.currency) == (made_up.payment.decline_reason, made_up.payment.currency)
    assert await refusal(bob.cancel(things.held, buyer="bob")) == Refusal(
        grpc.StatusCode.NOT_FOUND, "UNKNOWN_RESERVATION"
    )
    now = await town.state(things)
    assert [
        one for one in now if not (isinstance(one, pb.Payment) and one.payment_id == paid.payment.payment_id)
    ] == before


async def test_a_buyer_lists_his_own_and_an_organiser_those_of_his_events(town: Town, things: Things) -> None:
    async def listed(name: str, **filters: str) -> list[str]:
        request = pb.ListReservationsRequest(**filters, page_size=500)
        answer = await town.office(name).ticketing.ListReservations(request)
        return [found.reservation_id for found in answer.reservations]

    both = {things.held.reservation_id, things.sold.reservation_id}
    event_id = things.sale.event_id
    assert set(await listed("ada", buyer_id="ada", event_id=event_id)) == both
    assert set(await listed("olga", event_id=event_id)) == both
    assert await listed("bob", buyer_id="bob", event_id=event_id) == []
    unknown = Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_EVENT")
    assert await refusal(listed("otto", event_id=event_id)) == unknown
    assert await refusal(listed("otto", event_id=new_id())) == unknown
    for name, filters, field in (
        ("ada", {}, "buyer_id"),
        ("ada", {"buyer_id": "bob"}, "buyer_id"),
        ("ada", {"event_id": event_id}, "buyer_id"),
        ("olga", {}, "event_id"),
        ("olga", {"buyer_id": "ada"}, "event_id"),
    ):
        refused = await refusal(listed(name, **filters))
        assert refused == Refusal(grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED", frozenset({field})), (name, filters)


async def test_an_event_is_whose_who_created_it_and_says_so(town: Town, things: Things) -> None:
    assert (await town.office("bob").event(things.sale.event_id)).organiser_id == "olga"
    own = catalog.CreateEventRequest(
        request_id=new_id(), event=catalog.Event(name="Hamlet", currency="EUR", organiser_id="otto")
    )
    refused = await refusal(town.office("olga").catalog.CreateEvent(own))
    assert refused.fields == {"event.organiser_id"}


async def test_a_request_id_of_somebody_else_creates_nothing_for_me(town: Town) -> None:
    request = catalog.CreateEventRequest(request_id=new_id(), event=catalog.Event(name="Hamlet", currency="EUR"))
    created = await town.office("olga").catalog.CreateEvent(request)
    assert await town.office("olga").catalog.CreateEvent(request) == created
    refused = await refusal(town.office("otto").catalog.CreateEvent(request))
    assert refused == Refusal(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_retry_of_somebody_elses_request_is_told_nothing(town: Town) -> None:
    sale = await town.office("olga").put_on_sale()
    request = catalog.CloseEventRequest(request_id=new_id(), event_id=sale.event_id)
    await town.office("olga").catalog.CloseEvent(request)
    refused = await refusal(town.office("otto").catalog.CloseEvent(request))
    assert refused == Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_EVENT")


async def test_what_is_accepted_and_not_decided_is_its_buyers_alone(town: Town) -> None:
    """Only the gateway knows it then."""
    house = town.house
    sale = await town.office("olga").put_on_sale()
    async with house.alone:
        house.freeze("reservations")
        try:
            asked = asyncio.ensure_future(town.office("ada").reserve(sale, "ada", wait_s=0))
            accepted = await asked
            assert accepted.state == Reservation.STATE_PENDING
        finally:
            house.thaw("reservations")
    refused = await refusal(town.office("bob").reservation(accepted))
    assert refused == Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_RESERVATION")
    assert (await town.office("ada").reservation(accepted)).buyer_id == "ada"


async def test_a_stream_tells_nothing_after_its_token_has_expired(town: Town) -> None:
    sale = await town.office("olga").put_on_sale()
    held = await town.office("ada").held(sale, "ada")
    token = town.token("ada", lasts_s=2 - LEEWAY_S)
    watch = Office(bearing(town.line, token)).ticketing.WatchReservation(
        pb.WatchReservationRequest(reservation_id=held.reservation_id)
    )
    assert await watch.read() == pb.WatchReservationResponse(reservation=held)

    async def has_expired() -> bool:
        try:
            await Office(bearing(town.line, token)).reservation(held)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error) == Refusal(SIGNED_OUT, "TOKEN_EXPIRED")
        return False

    await eventually(has_expired)
    await town.office("ada").cancel(held)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watch.read()
    assert refusal_of(ended.value) == Refusal(SIGNED_OUT, "TOKEN_EXPIRED")
