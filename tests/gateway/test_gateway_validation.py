"""What the gateway refuses at first sight, and how it names it."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from chassis.errors import CallError, status_of
from gateway import validation
from tests.gateway.requests import best_available, cancel, new_id, pay, refund, reserve
from ticketrush.v1 import ticketing_pb2 as pb

NOT_UUIDS = ["", "42", "{" + new_id() + "}", new_id().replace("-", ""), "urn:uuid:" + new_id(), new_id() + "\n"]
NOT_BUYERS = ["", "x" * 65, "ada lovelace", "ada\0", "ada\n", "zoë"]
NOT_TEXTS_OF_64 = ["", "x" * 65, "a\0b", "a\nb"]
NOT_WAITS = [
    Duration(seconds=-1),
    Duration(seconds=31),
    Duration(seconds=30, nanos=1),
    Duration(seconds=1, nanos=-1),
    Duration(nanos=2_000_000_000),
    Duration(seconds=-9_223_372_036_854_775_808),
]
TWICE = new_id()

# check, a wrong request, the fields that must be named
WRONG: list[tuple[Callable[[Any], object], Any, set[str]]] = [
    *((validation.reserve, reserve(request_id=value), {"request_id"}) for value in NOT_UUIDS),
    *((validation.reserve, reserve(event_id=value), {"event_id"}) for value in NOT_UUIDS),
    *((validation.reserve, reserve(buyer_id=value), {"buyer_id"}) for value in NOT_BUYERS),
    *((validation.reserve, reserve(ticket_ids=[new_id(), value]), {"ticket_ids[1]"}) for value in NOT_UUIDS),
    *((validation.reserve, reserve(wait=value), {"wait"}) for value in NOT_WAITS),
    (validation.reserve, reserve(ticket_ids=[]), {"ticket_ids"}),
    (validation.reserve, reserve(ticket_ids=[TWICE, TWICE]), {"ticket_ids"}),
    (validation.reserve, reserve(ticket_ids=[TWICE, TWICE.upper()]), {"ticket_ids"}),
    (validation.reserve, reserve(ticket_ids=[new_id() for _ in range(101)]), {"ticket_ids"}),
    (validation.reserve, reserve(best_available=pb.BestAvailable(section="stalls", quantity=1)), {"ticket_ids"}),
    *((validation.reserve, best_available(quantity=value), {"best_available.quantity"}) for value in (-1, 0, 101)),
    *((validation.reserve, best_available(section=value), {"best_available.section"}) for value in NOT_TEXTS_OF_64),
    *((validation.pay, pay(request_id=value), {"request_id"}) for value in NOT_UUIDS),
    *((validation.pay, pay(reservation_id=value), {"reservation_id"}) for value in NOT_UUIDS),
    *((validation.pay, pay(buyer_id=value), {"buyer_id"}) for value in NOT_BUYERS),
    *((validation.pay, pay(amount_minor=value), {"amount_minor"}) for value in (-1, 10**12 + 1, -(2**63))),
    *((validation.pay, pay(payment_method=value), {"payment_method"}) for value in NOT_TEXTS_OF_64),
    (validation.pay, pay(payment_method="4111 1111 1111 1111"), {"payment_method"}),
    *((validation.pay, pay(wait=value), {"wait"}) for value in NOT_WAITS),
    *((validation.cancel, cancel(request_id=value), {"request_id"}) for value in NOT_UUIDS),
    *((validation.cancel, cancel(reservation_id=value), {"reservation_id"}) for value in NOT_UUIDS),
    *((validation.cancel, cancel(buyer_id=value), {"buyer_id"}) for value in NOT_BUYERS),
    *((validation.cancel, cancel(wait=value), {"wait"}) for value in NOT_WAITS),
    *((validation.refund, refund(reservation_id=value), {"reservation_id"}) for value in NOT_UUIDS),
    *((validation.refund, refund(reason=value), {"reason"}) for value in ("", "x" * 201, "a\0b")),
    (validation.reservation_id, pb.GetReservationRequest(reservation_id="42"), {"reservation_id"}),
    (validation.reservation_id, pb.WatchReservationRequest(), {"reservation_id"}),
    (validation.payment_id, pb.GetPaymentRequest(payment_id="42"), {"payment_id"}),
    (validation.event_id, pb.WatchTicketsRequest(event_id="42"), {"event_id"}),
    (validation.list_reservations, pb.ListReservationsRequest(event_id="42"), {"event_id"}),
    (validation.list_reservations, pb.ListReservationsRequest(buyer_id="a b"), {"buyer_id"}),
    (validation.list_reservations, pb.ListReservationsRequest(page_size=-1), {"page_size"}),
    (validation.list_reservations, pb.ListReservationsRequest(page_size=501), {"page_size"}),
    (validation.list_reservations, pb.ListReservationsRequest(page_token="x" * 513), {"page_token"}),
    (validation.list_payments, pb.ListPaymentsRequest(), {"reservation_id"}),
    (validation.list_payments, pb.ListPaymentsRequest(reservation_id=new_id(), page_size=501), {"page_size"}),
    (validation.list_tickets, pb.ListTicketsRequest(event_id="42"), {"event_id"}),
    (validation.list_tickets, pb.ListTicketsRequest(event_id=new_id(), page_size=1001), {"page_size"}),
    (validation.list_tickets, pb.ListTicketsRequest(event_id=new_id(), state=9), {"state"}),  # type: ignore[arg-type] # wrong on purpose
    (
        validation.reserve,
        pb.ReserveRequest(wait=Duration(seconds=31)),
        {"request_id", "event_id", "buyer_id", "ticket_ids", "wait"},
    ),
]


@pytest.mark.parametrize(("check", "request_", "fields"), WRONG)
def test_names_each_wrong_field(check: Callable[[Any], object], request_: Any, fields: set[str]) -> None:
    with pytest.raises(CallError) as refused:
        check(request_)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refused.value.violations) == fields


RIGHT: list[tuple[Callable[[Any], object], Any]] = [
    (validation.reserve, reserve()),
    (validation.reserve, reserve(ticket_ids=[new_id() for _ in range(100)])),
    (validation.reserve, reserve(buyer_id="x" * 64)),
    (validation.reserve, best_available(section="Großer Saal, 1. Rang", quantity=100)),
    (validation.pay, pay(amount_minor=10**12)),
    (validation.cancel, cancel()),
    (validation.refund, refund(reason="é" * 200)),
    (validation.list_reservations, pb.ListReservationsRequest()),
    (validation.list_reservations, pb.ListReservationsRequest(buyer_id="ada", event_id=new_id(), page_size=500)),
    (validation.list_payments, pb.ListPaymentsRequest(reservation_id=new_id())),
    (validation.list_tickets, pb.ListTicketsRequest(event_id=new_id(), page_size=1000)),
]


@pytest.mark.parametrize(("check", "request_"), RIGHT)
def test_takes_what_the_contract_allows(check: Callable[[Any], object], request_: Any) -> None:
    check(request_)


@pytest.mark.parametrize(
    ("wait", "expected_s"),
    [
        (None, 2.0),
        (Duration(), 0.0),
        (Duration(seconds=30), 30.0),
        (Duration(seconds=1, nanos=500_000_000), 1.5),
    ],
)
def test_waits_two_seconds_unless_told_otherwise(wait: Duration | None, expected_s: float) -> None:
    assert validation.reserve(reserve(wait=wait)) == expected_s
    assert validation.pay(pay(wait=wait)) == expected_s
    assert validation.cancel(cancel(wait=wait)) == expected_s


def test_ids_leave_in_lower_case() -> None:
    request = reserve()
    shouted = pb.ReserveRequest()
    shouted.CopyFrom(request)
    shouted.request_id = request.request_id.upper()
    shouted.event_id = request.event_id.upper()
    shouted.ticket_ids[:] = [ticket_id.upper() for ticket_id in request.ticket_ids]
    validation.reserve(shouted)
    assert shouted == request


def test_a_refusal_of_a_hundred_wrong_ids_still_fits_the_trailers() -> None:
    with pytest.raises(CallError) as refused:
        validation.reserve(reserve(ticket_ids=[f"{number}" for number in range(100)]))
    assert len(status_of(refused.value).SerializeToString()) < 4096
