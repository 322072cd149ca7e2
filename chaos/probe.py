"""Whether new calls are confirmed: asked by one more buyer, again and again, from the moment of the heal."""

import asyncio
import time
from random import Random
from typing import Final

from chaos.clients import Client
from chaos.record import Answer, Call, Request
from chaos.sale import Sale, drawn_id

ATTEMPT_TIMEOUT_S: Final = 2.0
AGAIN_AFTER_S: Final = 0.2


class Probe:
    """Reserves and pays, reserves and cancels; every call is new and is said once."""

    def __init__(self, client: Client, sale: Sale, cell: str, random: Random) -> None:
        self._client = client
        self._sale = sale
        self._cell = cell
        self._random = random

    async def confirmed(self, deadline_s: float) -> bool:
        """Returns when a hold, a payment, a cancellation and a read were confirmed, each at its first attempt."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            if await self._pays() and await self._cancels():
                return True
            await asyncio.sleep(AGAIN_AFTER_S)
        return False

    async def _pays(self) -> bool:
        held = await self._reserves()
        if held is None:
            return False
        paid = await self._say("Pay", reservation_id=held, payment_method="pm_card_ok")
        return paid.payment is not None and paid.payment.state == "APPROVED"

    async def _cancels(self) -> bool:
        held = await self._reserves()
        if held is None:
            return False
        cancelled = await self._say("Cancel", reservation_id=held)
        if cancelled.reservation is None or cancelled.reservation.state != "CANCELLED":
            return False
        return await self._client.look(held, patience_s=ATTEMPT_TIMEOUT_S) is not None

    async def _reserves(self) -> str | None:
        answer = await self._say("Reserve", quantity=1)
        told = answer.reservation
        return told.reservation_id if told and told.state == "HELD" else None

    async def _say(
        self, call: Call, *, quantity: int = 0, reservation_id: str = "", payment_method: str = ""
    ) -> Answer:
        request = Request(
            call,
            drawn_id(self._random),
            f"{self._cell}-probe",
            self._sale.event_id,
            self._cell,
            reservation_id=reservation_id,
            quantity=quantity,
            payment_method=payment_method,
        )
        return await self._client.say(self._client.begin(request), timeout_s=ATTEMPT_TIMEOUT_S)
