"""What a request comes to when its payment exists: the same one again, or another under a used request_id."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from psycopg import AsyncConnection

from chassis.attempts import Failure, Poison
from chassis.outbox import Record
from payments import messages, store
from payments.domain import PaymentRequest, PaymentState, is_same_request
from ticketrush.messages.v1 import messages_pb2 as pb


@dataclass
class Repeats:
    """`facts` are to be said again so that reservations answers the new call; `reused` are to be refused."""

    facts: list[Record] = field(default_factory=list)
    reused: list[PaymentRequest] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


async def decide_repeats(conn: AsyncConnection, repeated: Sequence[tuple[pb.Envelope, PaymentRequest]]) -> Repeats:
    """Decides each request by the payment of its buyer and request_id.

    A payment that is PENDING answers the latest of its calls from now on.
    """
    repeats = Repeats()
    if not repeated:
        return repeats
    waiting_calls: dict[UUID, tuple[UUID, str, str]] = {}
    payments = await store.lock_by_request(conn, [(request.buyer_id, request.request_id) for _, request in repeated])
    for envelope, request in repeated:
        payment = payments.get((request.buyer_id, request.request_id))
        if payment is None:
            flaw = Poison(f"payment_id {request.payment_id} belongs to another request")
            repeats.failures.append(Failure(envelope, flaw))
        elif not is_same_request(payment, request):
            repeats.reused.append(request)
        elif payment.state is PaymentState.PENDING:
            waiting_calls[payment.payment_id] = (payment.payment_id, request.reply_to, request.command_id)
        else:
            repeats.facts.append(
                messages.charge_fact(payment, request.reply_to, request.command_id, request.traceparent)
            )
    if waiting_calls:
        await store.set_waiting_calls(conn, list(waiting_calls.values()))
    return repeats
