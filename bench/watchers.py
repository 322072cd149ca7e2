"""`python -m bench.watchers ADDRESS EVENT_ID COUNT`: so many people who look at one seat map.

Prints a line when each of them has seen all of it, and at SIGTERM how many messages and bytes they were sent since.
"""

import asyncio
import os
import random
import signal
import sys
from typing import Final

import grpc
import uvloop

from bench.serving import SERVICE
from chassis.bearer import bearing
from ticketrush.v1 import ticketing_pb2 as pb

METHOD: Final = f"/{SERVICE}/WatchTickets"
TOKEN_VARIABLE: Final = "TICKETRUSH_TOKEN"  # noqa: S105 # the name of the variable, not its value
# gRPC takes a hundred streams for each connection without asking.
PER_CHANNEL: Final = 100
BACK_AFTER_S: Final = (0.5, 1.5)


class Watchers:
    """What all of them have seen."""

    def __init__(self) -> None:
        self.seeing = self.lost = self.messages = self.size = 0

    async def watch(self, channel: grpc.aio.Channel, event_id: str) -> None:
        """One of them, until it is cancelled; who is one too many comes back, as all who are refused should."""
        while True:
            try:
                await self._see(channel, event_id)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
            await asyncio.sleep(random.uniform(*BACK_AFTER_S))  # noqa: S311 # jitter

    async def _see(self, channel: grpc.aio.Channel, event_id: str) -> None:
        """Messages are counted and not read."""
        stream: grpc.aio.UnaryStreamMultiCallable[pb.WatchTicketsRequest, bytes] = channel.unary_stream(
            METHOD, request_serializer=pb.WatchTicketsRequest.SerializeToString
        )
        complete = pb.WatchTicketsResponse(snapshot_complete=True).SerializeToString()
        is_complete = False
        try:
            async for message in stream(pb.WatchTicketsRequest(event_id=event_id)):
                if is_complete:
                    self.messages += 1
                    self.size += len(message)
                elif message.endswith(complete):
                    is_complete = True
                    self.seeing += 1
        finally:
            if is_complete:
                self.seeing -= 1
                self.lost += 1


async def main(address: str, event_id: str, count: int) -> None:
    """Watches until SIGTERM, with the token of the environment."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    watchers = Watchers()
    channels = [
        # Without it all channels of a process share one connection.
        bearing(grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]), token)
        for _ in range(-(-count // PER_CHANNEL))
    ]
    tasks = [asyncio.create_task(watchers.watch(channels[n % len(channels)], event_id)) for n in range(count)]
    while watchers.seeing < count and not stop.is_set():
        if failed := next((task for task in tasks if task.done()), None):
            failed.result()
        await asyncio.sleep(0.05)
    _tell("all see it")
    await stop.wait()
    _tell(f"{watchers.messages} {watchers.size} {watchers.lost}")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
