"""The house full of people: a closed loop of buyers, and the watches beside them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

from chaos.buyers import Buyer
from chaos.cells import Cell
from chaos.clients import Client, dial
from chaos.record import Record
from chaos.sale import HASTY, PATIENT, Sale, put_on_sale
from chaos.watches import Watches

CHANNELS: Final = 6
# A buyer whose call is never answered gives up after clients.PATIENCE_S.
LEAVING_MAX_S: Final = 180.0


@dataclass
class House:
    """Who is there, and what is on sale."""

    clients: Sequence[Client]
    patient: Sale
    hasty: Sale
    watches: Watches
    _shopping: Sequence["asyncio.Task[None]"]
    _closing: asyncio.Event

    async def close(self) -> None:
        """Whoever has begun finishes, nobody begins again. Raises what a buyer stumbled over."""
        self._closing.set()
        if self._shopping:
            _, late = await asyncio.wait(self._shopping, timeout=LEAVING_MAX_S)
            for task in late:
                task.cancel()
        for task in self._shopping:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error


@asynccontextmanager
async def full_house(
    address: str, token: str, record: Record, cell: Cell, seed: str, *, buyers: int
) -> AsyncIterator[House]:
    """Buyers at work at this gateway, with a token for all, or an empty house. Seed and cell say what they do."""
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(dial(address, token)) for _ in range(CHANNELS)]
        random = Random(f"{seed}/{cell.name}/house")
        clients = [Client(channel, record, random) for channel in channels]
        patient = await put_on_sale(clients[0], PATIENT, random)
        hasty = await put_on_sale(clients[0], HASTY, random)
        watches = Watches(clients[0], record)
        watches.seat_map(patient.event_id)
        closing = asyncio.Event()
        shopping = []
        for number in range(buyers if cell.open_house else 0):
            own = clients[number % CHANNELS], clients[(number + 1) % CHANNELS]
            draw = Random(f"{seed}/{cell.name}/{number}")
            buyer = Buyer(
                name=f"{cell.name}-{number}",
                cell=cell.name,
                clients=own,
                watches=watches,
                patient=patient,
                hasty=hasty,
                random=draw,
            )
            shopping.append(asyncio.create_task(buyer.shop(closing)))
        try:
            yield House(clients, patient, hasty, watches, shopping, closing)
        finally:
            for task in shopping:
                task.cancel()
            await asyncio.gather(*shopping, return_exceptions=True)
            await watches.stop()
