"""A request makes the same command each time it is said, and another one when it says anything else."""

from typing import Any, TypeVar

import pytest

from gateway import commands, validation
from tests.gateway.requests import best_available, cancel, new_id, pay, reserve
from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.v1 import ticketing_pb2 as pb

Request = TypeVar("Request", pb.ReserveRequest, pb.PayRequest)


def with_changes(request: Request, **fields: Any) -> Request:
    changed = type(request)()
    changed.CopyFrom(request)
    for name, value in fields.items():
        changed.ClearField(name)  # type: ignore[arg-type] # its name is a parameter here
        changed.MergeFrom(type(request)(**{name: value}))
    return changed


def test_the_envelope_says_what_was_asked() -> None:
    request = reserve()
    command = commands.reserve(request)
    envelope = command.envelope
    assert command.routing_key == "ticket.reservation.requested"
    assert envelope.message_id == command.message_id
    assert envelope.subject_id == command.subject_id == envelope.reserve_tickets.reservation_id
    assert envelope.command_id == ""
    assert envelope.HasField("occur_time")
    assert envelope.reserve_tickets == messages.ReserveTickets(
        reservation_id=command.subject_id,
        request_id=request.request_id,
        event_id=request.event_id,
        buyer_id=request.buyer_id,
        ticket_ids=sorted(request.ticket_ids),
    )


def test_payment_and_cancellation_say_what_was_asked() -> None:
    payment, cancellation = pay(amount_minor=500), cancel()
    paying, cancelling = commands.pay(payment), commands.cancel(cancellation)
    assert paying.envelope.request_payment == messages.RequestPayment(
        payment_id=paying.subject_id,
        request_id=payment.request_id,
        reservation_id=payment.reservation_id,
        buyer_id=payment.buyer_id,
        amount_minor=500,
        payment_method="pm_card_ok",
    )
    assert paying.routing_key == "ticket.payments.requested"
    assert cancelling.envelope.cancel_reservation == messages.CancelReservation(
        reservation_id=cancellation.reservation_id, buyer_id=cancellation.buyer_id, request_id=cancellation.request_id
    )
    assert cancelling.routing_key == "ticket.reservation.cancel_requested"
    assert cancelling.subject_id == cancellation.reservation_id


def test_the_same_request_is_the_same_command_whatever_its_spelling_wait_or_order() -> None:
    request = reserve()
    said = commands.reserve(request)
    again = with_changes(request, event_id=request.event_id.upper(), ticket_ids=[*request.ticket_ids][::-1])
    again.wait.FromSeconds(7)
    validation.reserve(again)
    repeated = commands.reserve(again)
    assert (repeated.message_id, repeated.subject_id) == (said.message_id, said.subject_id)
    assert repeated.envelope.reserve_tickets == said.envelope.reserve_tickets


@pytest.mark.parametrize(
    "changes",
    [
        {"event_id": new_id()},
        {"buyer_id": "bob"},
        {"request_id": new_id()},
        {"ticket_ids": [new_id()]},
        {"best_available": pb.BestAvailable(section="stalls", quantity=2)},
    ],
)
def test_another_reserve_body_is_another_command(changes: dict[str, Any]) -> None:
    request = reserve()
    assert commands.reserve(with_changes(request, **changes)).message_id != commands.reserve(request).message_id


@pytest.mark.parametrize("changes", [{"amount_minor": 5}, {"payment_method": "pm_card_slow"}, {"buyer_id": "bob"}])
def test_another_pay_body_is_another_command(changes: dict[str, Any]) -> None:
    request = pay()
    assert commands.pay(with_changes(request, **changes)).message_id != commands.pay(request).message_id


def test_one_request_id_names_one_reservation_whatever_tickets_it_asks_for() -> None:
    request = reserve()
    other = with_changes(request, ticket_ids=[new_id()])
    assert commands.reserve(other).subject_id == commands.reserve(request).subject_id


def test_sections_that_spell_like_a_quantity_are_told_apart() -> None:
    one = best_available(section="a1", quantity=1)
    other = with_changes(one, best_available=pb.BestAvailable(section="a", quantity=11))
    assert commands.reserve(one).message_id != commands.reserve(other).message_id
