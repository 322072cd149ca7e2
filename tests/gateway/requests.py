"""Requests that are right, to be sent as they are or made wrong field by field."""

from typing import Any
from uuid import uuid4

from ticketrush.v1 import ticketing_pb2 as pb

BUYER = "ada@example.org"


def new_id() -> str:
    return str(uuid4())


def reserve(**fields: Any) -> pb.ReserveRequest:
    right = {"request_id": new_id(), "event_id": new_id(), "buyer_id": BUYER, "ticket_ids": [new_id(), new_id()]}
    return pb.ReserveRequest(**right | fields)


def best_available(**fields: Any) -> pb.ReserveRequest:
    right: dict[str, Any] = {"section": "stalls", "quantity": 2}
    return reserve(ticket_ids=[], best_available=pb.BestAvailable(**right | fields))


def pay(**fields: Any) -> pb.PayRequest:
    right = {"request_id": new_id(), "reservation_id": new_id(), "buyer_id": BUYER, "payment_method": "pm_card_ok"}
    return pb.PayRequest(**right | fields)


def cancel(**fields: Any) -> pb.CancelReservationRequest:
    right = {"request_id": new_id(), "reservation_id": new_id(), "buyer_id": BUYER}
    return pb.CancelReservationRequest(**right | fields)


def refund(**fields: Any) -> pb.RefundReservationRequest:
    right = {"request_id": new_id(), "reservation_id": new_id(), "reason": "the show is off"}
    return pb.RefundReservationRequest(**right | fields)
