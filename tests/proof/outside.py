"""What lies outside of the services, in memory, for a test that decides about each message, call and reply."""

# ruff: noqa: N802, ARG002 # names and signatures are gRPC's and the publisher's

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from grpc.aio import AioRpcError, Metadata

from chassis.publisher import Publisher
from contract import keys
from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.provider.v1 import provider_pb2 as provider

Charge = provider.Charge
LETTERS = {
    keys.PAYMENT_APPROVED: "A",
    keys.PAYMENT_REJECTED: "J",
    keys.REFUND_REQUESTED: "Q",
    keys.REFUND_COMPLETED: "F",
}


Response = TypeVar("Response")


class Wire(Publisher):
    """Takes the place of the broker: what is said about a payment stays until it is lost, and may arrive any time."""

    def __init__(self) -> None:
        self.messages: dict[tuple[str, str], messages.Envelope] = {}

    def publish(self, routing_key: str, message_id: str, envelope: bytes, *, shard: int = 0) -> "asyncio.Future[None]":
        """Confirmed at once. Kept by payment and the model's letter for the routing key."""
        if letter := LETTERS.get(routing_key):
            said = messages.Envelope.FromString(envelope)
            assert said.message_id == message_id
            self.messages[said.subject_id, letter] = said
        confirmed = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return confirmed

    def send_outcome(self, reply_to: str, envelope: bytes) -> None:
        """Nobody waits here."""

    def letters(self, payment_id: str) -> str:
        """What is on the wire about a payment, sorted."""
        return "".join(sorted(letter for subject, letter in self.messages if subject == payment_id))


class Processor:
    """The card processor, as its contract says; the next reply is lost when the test says so."""

    def __init__(self) -> None:
        self.charges: dict[str, Charge] = {}
        self.declines = False
        self.reply_is_lost = False

    async def Charge(self, request: provider.ChargeRequest, *, timeout: float) -> provider.ChargeResponse:
        state = Charge.STATE_DECLINED if self.declines else Charge.STATE_APPROVED
        new = Charge(
            payment_id=request.payment_id,
            amount_minor=request.amount_minor,
            currency=request.currency,
            state=state,
            decline_reason="CARD_DECLINED" if self.declines else "",
        )
        return self._reply(provider.ChargeResponse(charge=self.charges.setdefault(request.payment_id, new)))

    async def CancelCharge(
        self, request: provider.CancelChargeRequest, *, timeout: float
    ) -> provider.CancelChargeResponse:
        tombstone = Charge(payment_id=request.payment_id, state=Charge.STATE_CANCELLED)
        return self._reply(provider.CancelChargeResponse(charge=self.charges.setdefault(request.payment_id, tombstone)))

    async def Refund(self, request: provider.RefundRequest, *, timeout: float) -> provider.RefundResponse:
        charge = self.charges[request.payment_id]
        assert charge.state == Charge.STATE_APPROVED, "only what was charged can go back"
        charge.refunded_minor = charge.amount_minor
        return self._reply(provider.RefundResponse(charge=charge))

    def letter(self, payment_id: str) -> str:
        """The model's letter for what stands under the key."""
        charge = self.charges.get(payment_id)
        if charge is None:
            return "-"
        if charge.refunded_minor:
            return "F"
        return {Charge.STATE_APPROVED: "C", Charge.STATE_DECLINED: "D", Charge.STATE_CANCELLED: "T"}[charge.state]

    def _reply(self, response: Response) -> Response:
        lost, self.reply_is_lost = self.reply_is_lost, False
        if lost:
            raise lost_reply()
        return response


class Doorway:
    """Calls of payments to reservations, served in process."""

    def __init__(self, serve: Callable[..., Any]) -> None:
        self._serve = serve
        self.reply_is_lost = False

    async def OpenPayments(self, request: Any, *, timeout: float) -> Any:
        response = await self._serve(request, None)
        lost, self.reply_is_lost = self.reply_is_lost, False
        if lost:
            raise lost_reply()
        return response


def lost_reply() -> AioRpcError:
    """What a caller gets whose call had its effect and whose connection is gone."""
    return AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), details="connection lost")
