"""`python -m gateway` from its settings to SIGTERM."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from chassis.healthcheck import is_serving
from tests.chassis.broker import until
from tests.gateway.answers import reason_of
from tests.gateway.consumers import Consumers
from tests.gateway.requests import new_id, reserve
from tests.gateway.servicer import Owner
from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10


class Child:
    """The gateway as a child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.address = ""

    async def listens(self) -> None:
        """Waits for the line that says where."""
        assert self.process.stdout
        async with asyncio.timeout(START_TIMEOUT_S):
            async for line in self.process.stdout:
                record: dict[str, Any] = json.loads(line)
                if record["message"] == "listening":
                    self.address = f"127.0.0.1:{record['port']}"
                    return
        raise AssertionError("ended before it listened")

    async def serves(self) -> bool:
        return await asyncio.to_thread(is_serving, self.address)

    async def stops(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@pytest.fixture
async def child(broker_url: str, owner_address: str, consumers: Consumers) -> AsyncIterator[Child]:  # noqa: ARG001 # they declare
    settings = {
        "LISTEN_ADDRESS": "127.0.0.1:0",
        "METRICS_ADDRESS": "127.0.0.1:0",
        "AMQP_URL": broker_url,
        "RESERVATIONS_ADDRESS": owner_address,
        "PAYMENTS_ADDRESS": owner_address,
    }
    environment = os.environ | {f"TICKETRUSH_{name}": value for name, value in settings.items()}
    child = Child(
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", env=environment, stdout=asyncio.subprocess.PIPE
        )
    )
    await child.listens()
    await until(child.serves)
    yield child
    if child.process.returncode is None:
        child.process.kill()
        await child.process.communicate()


async def test_sigterm_answers_whoever_waits_and_ends_in_time(child: Child, consumers: Consumers, owner: Owner) -> None:
    present = pb.Reservation(reservation_id=new_id(), state=pb.Reservation.STATE_HELD, version=1)
    owner.reservations[present.reservation_id] = present
    async with grpc.aio.insecure_channel(child.address) as channel:
        ticketing = TicketingServiceStub(channel)
        watch = ticketing.WatchReservation(pb.WatchReservationRequest(reservation_id=present.reservation_id))
        assert await watch.read() == pb.WatchReservationResponse(reservation=present)
        waiting = asyncio.ensure_future(ticketing.Reserve(reserve(wait=Duration(seconds=30))))
        await consumers.hears(1)
        assert await child.stops() == 0
        assert (await waiting).reservation.state == pb.Reservation.STATE_PENDING
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watch.read()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(ended.value) == "GATEWAY_STOPPING"
