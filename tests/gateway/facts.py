"""Facts as the services tell them."""

from tests.gateway.consumers import Consumers
from tests.gateway.requests import new_id
from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.v1 import catalog_pb2
from ticketrush.v1 import ticketing_pb2 as pb


def reservation(
    version: int, state: "pb.Reservation.State.ValueType", *, of: str = "", **fields: object
) -> pb.Reservation:
    """A reservation in this state, a new one unless `of` names it."""
    return pb.Reservation(reservation_id=of or new_id(), version=version, state=state, **fields)  # type: ignore[arg-type] # any field of it


async def tell(consumers: Consumers, told: pb.Reservation) -> None:
    """Says the fact that left the reservation in its state."""
    states = pb.Reservation
    envelope = messages.Envelope(message_id=new_id())
    match told.state:
        case states.STATE_HELD:
            key, fact = "ticket.reserved", envelope.tickets_reserved.reservation
        case states.STATE_REJECTED:
            key, fact = "ticket.reservation.rejected", envelope.reservation_rejected.reservation
        case states.STATE_PARTIALLY_PAID:
            key, fact = "ticket.partially_paid", envelope.tickets_partially_paid.reservation
        case states.STATE_CONFIRMED:
            key, fact = "ticket.sold", envelope.tickets_sold.reservation
        case states.STATE_CANCELLED:
            key, fact = "ticket.cancelled", envelope.tickets_cancelled.reservation
        case _:
            key, fact = "ticket.expired", envelope.tickets_expired.reservation
    fact.CopyFrom(told)
    await consumers.say(key, envelope)


async def tell_money_changed(consumers: Consumers, told: pb.Reservation) -> None:
    """Says that the money of the reservation changed and its state did not."""
    fact = messages.ReservationUpdated(reservation=told)
    await consumers.say("ticket.reservation.updated", messages.Envelope(message_id=new_id(), reservation_updated=fact))


async def tell_tickets_changed(consumers: Consumers, event_id: str) -> None:
    """Says that tickets were added to the event, or withdrawn."""
    fact = messages.EventUpdated(event=catalog_pb2.Event(event_id=event_id), tickets_changed=True)
    await consumers.say("ticket.event.updated", messages.Envelope(message_id=new_id(), event_updated=fact))
