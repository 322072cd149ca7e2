"""What is wrong gets a clear error that names it, and changes nothing."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.e2e.office import Office, Refusal, Reservation, Sale, new_id, refusal, reserve_request
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

pytestmark = pytest.mark.usefixtures("the_books_balance")

LONG = "x" * 10_000
NOT_AN_ID = "not-a-uuid"
FAR_TOO_MUCH = 1_000_000_000_001


def wrong(*fields: str) -> Refusal:
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", frozenset(fields))


@pytest.fixture(scope="module")
async def sale(office: Office) -> Sale:
    return await office.put_on_sale(101)


# What is done to a request that is right, and the fields that the refusal names.
RESERVES: dict[str, tuple[Callable[[pb.ReserveRequest, Sale], Any], set[str]]] = {
    "a malformed request_id": (lambda ask, _: ask.MergeFrom(pb.ReserveRequest(request_id=NOT_AN_ID)), {"request_id"}),
    "a malformed event_id": (lambda ask, _: ask.MergeFrom(pb.ReserveRequest(event_id="7")), {"event_id"}),
    "no ids at all": (lambda ask, _: ask.Clear(), {"request_id", "event_id", "buyer_id", "ticket_ids"}),
    "an overlong buyer": (lambda ask, _: ask.MergeFrom(pb.ReserveRequest(buyer_id=LONG)), {"buyer_id"}),
    "a buyer with a NUL": (lambda ask, _: ask.MergeFrom(pb.ReserveRequest(buyer_id="a\0b")), {"buyer_id"}),
    "no tickets": (lambda ask, _: ask.ClearField("ticket_ids"), {"ticket_ids"}),
    "a ticket twice": (lambda ask, sale: ask.ticket_ids.extend([sale.tickets[0]] * 2), {"ticket_ids"}),
    "a ticket twice in another case": (
        lambda ask, sale: ask.ticket_ids.append(sale.tickets[0].upper()),
        {"ticket_ids"},
    ),
    "101 tickets": (lambda ask, sale: ask.ticket_ids.extend(sale.tickets[1:]), {"ticket_ids"}),
    "a malformed ticket": (lambda ask, _: ask.ticket_ids.append(NOT_AN_ID), {"ticket_ids[1]"}),
    "both ways to choose": (lambda ask, _: ask.best_available.CopyFrom(best(1)), {"ticket_ids"}),
    "no best seat": (lambda ask, _: choose_best(ask, 0), {"best_available.quantity"}),
    "101 best seats": (lambda ask, _: choose_best(ask, 101), {"best_available.quantity"}),
    "less than none": (lambda ask, _: choose_best(ask, -1), {"best_available.quantity"}),
    "an overlong section": (lambda ask, _: choose_best(ask, 1, LONG), {"best_available.section"}),
    "too long a wait": (lambda ask, _: ask.wait.FromSeconds(31), {"wait"}),
    "a wait into the past": (lambda ask, _: ask.wait.FromSeconds(-1), {"wait"}),
    "a wait that is no Duration": (lambda ask, _: ask.wait.CopyFrom(Duration(nanos=-5)), {"wait"}),
}


def best(quantity: int, section: str = "stalls") -> pb.BestAvailable:
    return pb.BestAvailable(section=section, quantity=quantity)


def choose_best(ask: pb.ReserveRequest, quantity: int, section: str = "stalls") -> None:
    ask.ClearField("ticket_ids")
    ask.best_available.CopyFrom(best(quantity, section))


@pytest.mark.parametrize("flaw", RESERVES)
async def test_a_reserve_with_a_flaw_is_refused_by_field(office: Office, sale: Sale, flaw: str) -> None:
    spoil, fields = RESERVES[flaw]
    request = reserve_request(sale, "ada")
    spoil(request, sale)
    assert await refusal(office.ticketing.Reserve(request)) == wrong(*fields)
    assert await office.counts(sale.event_id) == (101, 0, 0)


@pytest.mark.parametrize(
    ("flaw", "fields"),
    [
        ({"request_id": NOT_AN_ID}, {"request_id"}),
        ({"reservation_id": ""}, {"reservation_id"}),
        ({"buyer_id": ""}, {"buyer_id"}),
        ({"buyer_id": "spaces are not allowed"}, {"buyer_id"}),
        ({"amount_minor": -1}, {"amount_minor"}),
        ({"amount_minor": FAR_TOO_MUCH}, {"amount_minor"}),
        ({"amount_minor": 2**63 - 1}, {"amount_minor"}),
        ({"payment_method": ""}, {"payment_method"}),
        ({"payment_method": LONG}, {"payment_method"}),
        ({"payment_method": "4242 4242 4242 4242"}, {"payment_method"}),
        ({"wait": Duration(seconds=3_600)}, {"wait"}),
        (
            {"request_id": "", "amount_minor": -5, "payment_method": "a\0"},
            {"request_id", "amount_minor", "payment_method"},
        ),
    ],
)
async def test_a_pay_with_a_flaw_is_refused_by_field(office: Office, flaw: dict[str, Any], fields: set[str]) -> None:
    right: dict[str, Any] = {
        "request_id": new_id(),
        "reservation_id": new_id(),
        "buyer_id": "ada",
        "amount_minor": 1,
        "payment_method": "pm_card_ok",
    }
    assert await refusal(office.ticketing.Pay(pb.PayRequest(**right | flaw))) == wrong(*fields)


async def test_malformed_ids_are_refused_wherever_they_are_asked_for(office: Office) -> None:
    ticketing, events = office.ticketing, office.catalog
    for call, field in (
        (ticketing.GetReservation(pb.GetReservationRequest(reservation_id=NOT_AN_ID)), "reservation_id"),
        (ticketing.GetPayment(pb.GetPaymentRequest(payment_id=LONG)), "payment_id"),
        (ticketing.ListPayments(pb.ListPaymentsRequest(reservation_id="")), "reservation_id"),
        (ticketing.ListTickets(pb.ListTicketsRequest(event_id="x" * 36)), "event_id"),
        (ticketing.ListReservations(pb.ListReservationsRequest(event_id=NOT_AN_ID)), "event_id"),
        (events.GetEvent(catalog.GetEventRequest(event_id=NOT_AN_ID)), "event_id"),
    ):
        assert await refusal(call) == wrong(field)
    watch = ticketing.WatchReservation(pb.WatchReservationRequest(reservation_id=NOT_AN_ID))
    assert await refusal(watch.read()) == wrong("reservation_id")
    seats = ticketing.WatchTickets(pb.WatchTicketsRequest(event_id=NOT_AN_ID))
    assert await refusal(seats.read()) == wrong("event_id")


async def test_what_is_not_there_is_not_found(office: Office) -> None:
    code = grpc.StatusCode.NOT_FOUND
    nothing = pb.Reservation(reservation_id=new_id(), buyer_id="ada")
    assert await refusal(office.reservation(nothing)) == Refusal(code, "UNKNOWN_RESERVATION")
    assert await refusal(office.cancel(nothing)) == Refusal(code, "UNKNOWN_RESERVATION")
    assert await refusal(office.refund(nothing)) == Refusal(code, "UNKNOWN_RESERVATION")
    assert await refusal(office.payment(pb.Payment(payment_id=new_id()))) == Refusal(code, "UNKNOWN_PAYMENT")
    assert await refusal(office.event(new_id())) == Refusal(code, "UNKNOWN_EVENT")
    assert await refusal(office.tickets(new_id())) == Refusal(code, "UNKNOWN_EVENT")
    assert await refusal(office.call_off(new_id())) == Refusal(code, "UNKNOWN_EVENT")
    assert await office.payments(nothing) == []


async def test_a_reserve_of_an_unknown_event_or_ticket_is_rejected_with_its_reason(office: Office, sale: Sale) -> None:
    other = await office.put_on_sale()
    unknown = Sale(new_id(), sale.tickets)
    assert (await office.reserve(unknown, "ada")).reject_reason == "UNKNOWN_EVENT"
    assert (await office.reserve(sale, "ada", [new_id()])).reject_reason == "UNKNOWN_TICKET"
    # One seat of another event spoils the whole cart.
    mixed = [*sale.tickets[:2], *other.tickets]
    assert (await office.reserve(sale, "ada", mixed)).reject_reason == "UNKNOWN_TICKET"
    nowhere = reserve_request(sale, "ada")
    choose_best(nowhere, 1, "no such section")
    assert (await office.ticketing.Reserve(nowhere)).reservation.reject_reason == "SOLD_OUT"
    assert await office.counts(sale.event_id) == (101, 0, 0)
    assert await office.counts(other.event_id) == (1, 0, 0)


async def test_calls_in_a_wrong_state_are_refused_and_change_nothing(office: Office) -> None:
    code = grpc.StatusCode.FAILED_PRECONDITION
    sale = await office.put_on_sale(2)
    bought = await office.buy(sale, "ada", sale.tickets[:1])
    assert await refusal(office.cancel(bought)) == Refusal(code, "ALREADY_CONFIRMED")
    rejected = await office.reserve(sale, "bob", sale.tickets[:1])
    assert await refusal(office.cancel(rejected)) == Refusal(code, "ALREADY_REJECTED")
    held = await office.held(sale, "bob", sale.tickets[1:])
    assert await refusal(office.refund(held)) == Refusal(code, "NOT_CONFIRMED")
    mallory = office.cancel(held, buyer="mallory")
    assert await refusal(mallory) == Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_RESERVATION")
    withdraw = catalog.WithdrawTicketsRequest(request_id=new_id(), event_id=sale.event_id, ticket_ids=sale.tickets)
    assert await refusal(office.catalog.WithdrawTickets(withdraw)) == Refusal(code, "TICKETS_TAKEN")
    assert [await office.reservation(one) for one in (bought, held)] == [bought, held]


async def test_an_event_with_flaws_is_refused_by_field(office: Office) -> None:
    flawed = catalog.Event(
        event_id=new_id(), name="", venue=LONG, currency="euro", max_tickets_per_buyer=-1, available_count=5
    )
    flawed.hold_duration.FromSeconds(0)
    flawed.payment_grace.FromSeconds(601)
    request = catalog.CreateEventRequest(request_id=NOT_AN_ID, event=flawed)
    assert await refusal(office.catalog.CreateEvent(request)) == wrong(
        "request_id",
        *(
            f"event.{name}"
            for name in (
                "event_id",
                "name",
                "venue",
                "currency",
                "max_tickets_per_buyer",
                "available_count",
                "hold_duration",
                "payment_grace",
            )
        ),
    )


async def test_seats_that_exist_or_are_too_many_or_cost_less_than_nothing_are_refused(office: Office) -> None:
    sale = await office.put_on_sale(3)

    async def add(**block: Any) -> Refusal:
        right: dict[str, Any] = {"section": "stalls", "price_minor": 1}
        asked = catalog.Block(**right | block)
        return await refusal(
            office.catalog.CreateTickets(
                catalog.CreateTicketsRequest(request_id=new_id(), event_id=sale.event_id, blocks=[asked])
            )
        )

    assert await add(grid=catalog.Grid(rows=1, seats_per_row=4)) == Refusal(
        grpc.StatusCode.ALREADY_EXISTS, "SEAT_EXISTS"
    )
    assert await add(quantity=100_001) == wrong("blocks[0].quantity")
    assert await add(quantity=1, price_minor=-1) == wrong("blocks[0].price_minor")
    assert await add(quantity=1, section="") == wrong("blocks[0].section")
    assert await add(grid=catalog.Grid(rows=10_000, seats_per_row=10_000)) == wrong("blocks")
    assert len(await office.tickets(sale.event_id)) == 3


async def test_pages_continue_only_with_the_token_of_their_own_call(office: Office, sale: Sale) -> None:
    other = await office.put_on_sale(3)
    request = pb.ListTicketsRequest(event_id=sale.event_id, page_size=60)
    first = await office.ticketing.ListTickets(request)
    token = request.page_token = first.next_page_token
    second = await office.ticketing.ListTickets(request)
    assert [one.ticket_id for one in (*first.tickets, *second.tickets)] == sale.tickets
    assert second.next_page_token == ""

    tampered = token[:9] + ("A" if token[9] != "A" else "B") + token[10:]
    refused = wrong("page_token")
    for bad in (tampered, "garbage", "%%%", LONG[:200]):
        request.page_token = bad
        assert await refusal(office.ticketing.ListTickets(request)) == refused
    elsewhere = pb.ListTicketsRequest(event_id=other.event_id, page_token=token)
    assert await refusal(office.ticketing.ListTickets(elsewhere)) == refused
    reservations = pb.ListReservationsRequest(event_id=sale.event_id, page_token=token)
    assert await refusal(office.ticketing.ListReservations(reservations)) == refused
    payments = pb.ListPaymentsRequest(reservation_id=new_id(), page_token=token)
    assert await refusal(office.ticketing.ListPayments(payments)) == refused
    events = catalog.ListEventsRequest(page_token=token)
    assert await refusal(office.catalog.ListEvents(events)) == refused
    sized = pb.ListTicketsRequest(event_id=sale.event_id, page_size=-1)
    assert await refusal(office.ticketing.ListTickets(sized)) == wrong("page_size")


async def test_reservations_are_listed_by_buyer_and_event_the_newest_first(office: Office) -> None:
    sale = await office.put_on_sale(3)
    buyer = f"lister-{new_id()}"
    held = [await office.held(sale, buyer, [ticket]) for ticket in sale.tickets]
    await office.held(await office.put_on_sale(), buyer)
    request = pb.ListReservationsRequest(buyer_id=buyer, event_id=sale.event_id, page_size=2)
    listed: list[pb.Reservation] = []
    while len(listed) < 3:
        page = await office.ticketing.ListReservations(request)
        listed += page.reservations
        request.page_token = page.next_page_token
    assert listed == held[::-1]
    assert request.page_token == ""
    assert {one.state for one in listed} == {Reservation.STATE_HELD}
