"""`python -m chaos.flood`: a crowd, in its own process, that reserves one seat a call at a rate that nobody slows down.

Takes a Flood as JSON on standard input and writes a Drop a line to its `out`. It measures from the
moment at which a call was due: a generator that waits for answers would hide what it is there to show.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration

from chaos.clients import dial, understand
from ticketrush.v1 import ticketing_pb2 as pb

METHOD: Final = "/ticketrush.v1.TicketingService/Reserve"
TICK_S: Final = 0.005
TIMEOUT_S: Final = 5.0
WAIT_S: Final = 2
CHANNELS: Final = 4


@dataclass(frozen=True)
class Flood:
    """`rate` calls a second, or, when it is 0, as many as `in_flight` callers make who wait for their answers."""

    address: str
    event_id: str
    buyer_id: str
    tickets: list[str]
    request_ids: list[str]
    seconds: float
    out: str
    rate: float = 0.0
    in_flight: int = 0


@dataclass(frozen=True)
class Drop:
    """One call; `due_s` is when it should have been made, in seconds since the epoch."""

    request_id: str
    ticket_id: str
    due_s: float
    end_s: float
    code: str
    reason: str = ""
    retry_after_s: float = 0.0
    reservation: str = ""


Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


async def _ask(call: Call, flood: Flood, number: int, due_s: float) -> Drop:
    ticket_id, request_id = flood.tickets[number], flood.request_ids[number]
    request = pb.ReserveRequest(
        request_id=request_id,
        event_id=flood.event_id,
        buyer_id=flood.buyer_id,
        ticket_ids=[ticket_id],
        wait=Duration(seconds=WAIT_S),
    )
    try:
        answer = await call(request.SerializeToString(), timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        told = understand(error)
        return Drop(request_id, ticket_id, due_s, time.time(), told.code, told.reason, told.retry_after_s)
    return Drop(request_id, ticket_id, due_s, time.time(), "OK", reservation=answer.hex())


async def _pour(calls: list[Call], flood: Flood) -> list[Drop]:
    """Open loop: whatever comes of the calls before, the next ones are made when they are due."""
    begin, asking = time.time(), set()
    for number in range(min(len(flood.tickets), round(flood.rate * flood.seconds))):
        due_s = begin + number / flood.rate
        while (early_s := due_s - time.time()) > 0:
            await asyncio.sleep(max(early_s, TICK_S))
        asking.add(asyncio.create_task(_ask(calls[number % CHANNELS], flood, number, due_s)))
        if number % 16 == 0:
            # Behind time as well, answers must be taken.
            await asyncio.sleep(0)
    return list(await asyncio.gather(*asking))


async def _queue(calls: list[Call], flood: Flood) -> list[Drop]:
    """Closed loop: each caller asks again when answered."""
    numbers: Iterator[int] = iter(range(len(flood.tickets)))
    end, drops = time.time() + flood.seconds, list[Drop]()

    async def caller(call: Call) -> None:
        for number in numbers:
            drop = await _ask(call, flood, number, time.time())
            drops.append(drop)
            await asyncio.sleep(drop.retry_after_s * random.uniform(0.5, 1.0))
            if time.time() > end:
                return

    await asyncio.gather(*(caller(calls[place % CHANNELS]) for place in range(flood.in_flight)))
    return drops


async def _main(flood: Flood) -> None:
    channels = [dial(flood.address) for _ in range(CHANNELS)]
    calls: list[Call] = [channel.unary_unary(METHOD) for channel in channels]
    drops = await (_pour if flood.rate else _queue)(calls, flood)
    with Path(flood.out).open("w") as file:  # noqa: ASYNC230 # at the end, with nothing left to delay
        file.writelines(json.dumps(asdict(drop)) + "\n" for drop in drops)
    for channel in channels:
        await channel.close()


async def poured(floods: list[Flood]) -> AsyncIterator[Drop]:
    """What came of floods poured at once, each by a process of its own."""
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", "chaos.flood", stdin=asyncio.subprocess.PIPE)
        for _ in floods
    ]
    await asyncio.gather(
        *(
            process.communicate(json.dumps(asdict(flood)).encode())
            for process, flood in zip(processes, floods, strict=True)
        )
    )
    for flood in floods:
        for line in Path(flood.out).read_text().splitlines():  # noqa: ASYNC240 # nothing else is under way then
            yield Drop(**json.loads(line))


if __name__ == "__main__":
    asyncio.run(_main(Flood(**json.loads(sys.stdin.read()))))
