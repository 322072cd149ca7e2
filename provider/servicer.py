"""The PaymentProviderService: checks what is asked, acts out the script, shows what stands."""

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import grpc

from chassis import errors
from chassis.interceptor import Context
from chassis.paging import PageTokens
from contract import reasons
from provider import requests, store
from provider.methods import METHODS, Method
from provider.store import Order
from ticketrush.provider.v1 import provider_pb2 as pb
from ticketrush.provider.v1 import provider_pb2_grpc

# A caller without a deadline gets its connection "lost" after this long.
LOST_REPLY_S: Final = 60.0
DELAYED_MAX: Final = 10_000
RETRY_AFTER_S: Final = 1.0
_ALL: Final = "ListCharges"


class Servicer(provider_pb2_grpc.PaymentProviderServiceServicer):
    """Idempotent by payment_id: whatever is recorded first under one holds for ever."""

    def __init__(self, charges: store.Store, tokens: PageTokens) -> None:
        self._charges = charges
        self._tokens = tokens
        self._delayed: set[asyncio.Task[tuple[store.Charge, bool]]] = set()

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Adds the service to the server; answers its full name."""
        provider_pb2_grpc.add_PaymentProviderServiceServicer_to_server(self, server)
        return [pb.DESCRIPTOR.services_by_name["PaymentProviderService"].full_name]

    async def forget_delayed(self) -> None:
        """Drops charges that are not decided yet; their callers ask again."""
        for task in self._delayed:
            task.cancel()
        await asyncio.gather(*self._delayed, return_exceptions=True)

    async def Charge(self, request: pb.ChargeRequest, context: Context) -> pb.ChargeResponse:
        order = requests.order(request)
        method = METHODS[order.payment_method]
        charge, made = await self._decide(order, method)
        if charge.state != "CANCELLED" and (charge.amount_minor, charge.currency) != (
            order.amount_minor,
            order.currency,
        ):
            raise errors.already_exists(
                reasons.REQUEST_ID_REUSED, f"{order.payment_id} was charged {charge.amount_minor} {charge.currency}"
            )
        if made and method.loses_first_reply:
            await asyncio.sleep(LOST_REPLY_S)
            raise errors.unavailable("REPLY_LOST", "the connection was lost; try again")
        return pb.ChargeResponse(charge=_shown(charge))

    async def _decide(self, order: Order, method: Method) -> tuple[store.Charge, bool]:
        """The charge under the order's key, and whether this call made it."""
        if method.decides_at_once:
            return await self._charges.decide(order, decline_reason=method.decline_reason)
        if known := await self._charges.find(order.payment_id):
            return known, False
        if await self._charges.fails_again(order.payment_id, "Charge", method.charge_failures):
            raise errors.unavailable("TRY_AGAIN", "the card network does not answer; nothing was charged")
        if len(self._delayed) >= DELAYED_MAX:
            raise errors.overloaded("OVERLOADED", "too many slow charges at once", RETRY_AFTER_S)
        # A task of its own: a real processor decides although its caller has hung up.
        task = asyncio.create_task(self._decide_later(order, method))
        self._delayed.add(task)
        task.add_done_callback(self._delayed.discard)
        return await asyncio.shield(task)

    async def _decide_later(self, order: Order, method: Method) -> tuple[store.Charge, bool]:
        await asyncio.sleep(method.delay_s)
        return await self._charges.decide(order, decline_reason=method.decline_reason)

    async def CancelCharge(self, request: pb.CancelChargeRequest, context: Context) -> pb.CancelChargeResponse:
        return pb.CancelChargeResponse(charge=_shown(await self._charges.cancel(requests.payment_id(request))))

    async def Refund(self, request: pb.RefundRequest, context: Context) -> pb.RefundResponse:
        payment_id = requests.payment_id(request)
        charge = await self._known(payment_id)
        if charge.state != "APPROVED":
            raise errors.failed_precondition("NOT_CHARGED", f"{payment_id} is {charge.state}: no money was taken")
        method = METHODS[charge.payment_method]
        if method.refuses_refunds:
            raise errors.failed_precondition("REFUND_REFUSED", "the card's bank takes no refunds")
        if await self._charges.fails_again(payment_id, "Refund", method.refund_failures):
            raise errors.unavailable("TRY_AGAIN", "the card network does not answer; nothing was refunded")
        await self._charges.refund(payment_id)
        return pb.RefundResponse(charge=_shown(await self._known(payment_id)))

    async def GetCharge(self, request: pb.GetChargeRequest, context: Context) -> pb.GetChargeResponse:
        return pb.GetChargeResponse(charge=_shown(await self._known(requests.payment_id(request))))

    async def ListCharges(self, request: pb.ListChargesRequest, context: Context) -> pb.ListChargesResponse:
        size = requests.page_size(request)
        position = self._tokens.decode(_ALL, request.page_token, requests.ordinal)
        # One more than asked for tells whether there is a next page.
        charges = await self._charges.page(after_ordinal=position or 0, size=size + 1)
        page = charges[:size]
        more = len(charges) > size
        return pb.ListChargesResponse(
            charges=[_shown(charge) for charge in page],
            next_page_token=self._tokens.encode(_ALL, str(page[-1].ordinal)) if more else "",
        )

    async def _known(self, payment_id: UUID) -> store.Charge:
        charge = await self._charges.find(payment_id)
        if charge is None:
            raise errors.not_found("UNKNOWN_CHARGE", f"nothing was ever asked under {payment_id}")
        return charge


def _shown(charge: store.Charge) -> pb.Charge:
    return pb.Charge(
        charge_id=charge.charge_id,
        payment_id=charge.payment_id,
        amount_minor=charge.amount_minor,
        refunded_minor=charge.refunded_minor,
        currency=charge.currency,
        state=pb.Charge.State.Value(f"STATE_{charge.state}"),
        decline_reason=charge.decline_reason,
    )
