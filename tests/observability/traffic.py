"""A little of everything that people do, again and again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc
import httpx

from deploy.services import FRONTEND
from tests.chassis.broker import running
from tests.e2e.house import House
from tests.e2e.office import Office, Payment, Reservation, Sale, new_id, refusal
from ticketrush.v1 import ticketing_pb2 as pb

SEATS: Final = 500
PAUSE_S: Final = 0.2
ANSWER_TIMEOUT_S: Final = 60


async def live(office: Office, sale: Sale, sold: str, returned: str) -> None:
    """A seat is sold, one taken back, one refused to somebody, a card declined; and somebody asks for what is not."""
    bought = await office.buy(sale, "ada", [sold])
    assert (await office.reserve(sale, "bob", [sold])).state == Reservation.STATE_REJECTED
    held = await office.held(sale, "eve", [returned])
    assert (await office.pay(held, card="pm_card_declined")).payment.state == Payment.STATE_REJECTED
    assert (await office.pay(held)).reservation.state == Reservation.STATE_CONFIRMED
    assert (await office.refund(held)).state == Reservation.STATE_CANCELLED
    assert (await office.reservation(bought)).state == Reservation.STATE_CONFIRMED
    unknown = office.ticketing.GetReservation(pb.GetReservationRequest(reservation_id=new_id()))
    assert (await refusal(unknown)).code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}


@asynccontextmanager
async def traffic(house: House) -> AsyncIterator[None]:
    """Goes on until the block ends."""
    sale = await house.office.put_on_sale(SEATS)
    address = "http://" + house.stack.address(FRONTEND.name)

    async def go_on() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=ANSWER_TIMEOUT_S, trust_env=False) as visitor:
            for sold, returned in zip(sale.tickets[::2], sale.tickets[1::2], strict=True):
                await live(house.office, sale, sold, returned)
                assert (await visitor.get("/v1/events")).is_success
                await asyncio.sleep(PAUSE_S)
        raise AssertionError(f"all {SEATS} seats are used up")

    async with running(go_on()):
        yield
