"""Buyers who do not give up, to keep the house busy while things happen to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import grpc

from tests.e2e.office import Office, Payment, Reservation, Sale, eventually, new_id
from ticketrush.v1 import ticketing_pb2 as pb

BUYERS: Final = 6
TICKETS: Final = 1_000
PAUSE_S: Final = 0.2
AGAIN_AFTER_S: Final = 0.1
WAIT_S: Final = 2.0
# What a caller who may send the same request again is told while parts are away.
TRY_AGAIN: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)

Answer = TypeVar("Answer")


async def insist(call: Callable[[], Awaitable[Answer]], decided: Callable[[Answer], bool]) -> Answer:
    """Makes the same call until its answer is decided."""
    while True:
        try:
            answer = await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in TRY_AGAIN:
                raise
        else:
            if decided(answer):
                return answer
        await asyncio.sleep(AGAIN_AFTER_S)


class Crowd:
    """Each buyer takes the next seat, pays, and begins again. Nobody else wants these seats: all are to be had."""

    def __init__(self, offices: Sequence[Office], sale: Sale) -> None:
        self._offices = offices
        self._sale = sale
        self._tickets: Iterator[str] = iter(sale.tickets)
        self._leaving = False
        self.sold: list[pb.Payment] = []

    async def buys(self, more: int = 10) -> None:
        """Returns when so many more seats are sold."""
        wanted = len(self.sold) + more

        async def enough() -> bool:
            return len(self.sold) >= wanted

        await eventually(enough, lambda: f"{len(self.sold)} of {wanted} sold")

    async def shop(self, number: int) -> None:
        """One buyer's day, at one gateway after the other."""
        turn = number
        while not self._leaving:
            await self._buy(self._offices[turn % len(self._offices)], f"buyer-{number}", next(self._tickets))
            turn += 1
            await asyncio.sleep(PAUSE_S)

    def leave(self) -> None:
        """Whoever has begun finishes, nobody begins again."""
        self._leaving = True

    async def _buy(self, office: Office, buyer: str, ticket: str) -> None:
        reserve_id, pay_id = new_id(), new_id()
        held = await insist(
            lambda: office.reserve(self._sale, buyer, [ticket], request_id=reserve_id, wait_s=WAIT_S),
            lambda answer: answer.state != Reservation.STATE_PENDING,
        )
        assert held.state == Reservation.STATE_HELD, held
        paid = await insist(
            lambda: office.pay(held, request_id=pay_id, wait_s=WAIT_S),
            lambda answer: answer.payment.state != Payment.STATE_PENDING,
        )
        assert paid.payment.state == Payment.STATE_APPROVED, paid
        assert paid.reservation.state == Reservation.STATE_CONFIRMED, paid
        self.sold.append(paid.payment)


@asynccontextmanager
async def shopping(*offices: Office) -> AsyncIterator[Crowd]:
    """A crowd at work; at the end every buyer has what was paid for, and no seat is held or sold beyond that."""
    sale = await offices[0].put_on_sale(TICKETS, price_minor=100)
    crowd = Crowd(offices, sale)
    async with asyncio.TaskGroup() as tasks:
        for number in range(BUYERS):
            tasks.create_task(crowd.shop(number))
        yield crowd
        crowd.leave()
    assert await offices[0].counts(sale.event_id) == (TICKETS - len(crowd.sold), 0, len(crowd.sold))
