"""The provider as a child process, and what its tests say to it."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

import grpc

from ticketrush.provider.v1 import provider_pb2 as pb
from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

Stub: TypeAlias = "PaymentProviderServiceAsyncStub"
START_TIMEOUT_S = 20
CLOSE_GRACE_S = 5


def order(method: str = "pm_card_ok", amount_minor: int = 4_200, currency: str = "EUR") -> pb.ChargeRequest:
    """A request to charge under a fresh key."""
    return pb.ChargeRequest(
        payment_id=str(uuid4()), amount_minor=amount_minor, currency=currency, payment_method=method
    )


class ProviderProcess:
    """`python -m provider` as a child; `kill` is kill -9, `start` begins again on the same file."""

    def __init__(self, store_path: Path) -> None:
        self._store_path = store_path
        self._process: asyncio.subprocess.Process | None = None
        self._channel: grpc.aio.Channel | None = None

    async def start(self) -> Stub:
        environment = {
            **os.environ,
            "TICKETRUSH_STORE_PATH": str(self._store_path),
            "TICKETRUSH_LISTEN_ADDRESS": "127.0.0.1:0",
            "TICKETRUSH_METRICS_ADDRESS": "127.0.0.1:0",
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "provider", env=environment, stdout=asyncio.subprocess.PIPE
        )
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{await self._port()}")
        return PaymentProviderServiceStub(self._channel)

    async def _port(self) -> int:
        assert self._process
        assert self._process.stdout
        async with asyncio.timeout(START_TIMEOUT_S):
            async for line in self._process.stdout:
                record: dict[str, Any] = json.loads(line)
                if record["message"] == "listening":
                    return int(record["port"])
        raise AssertionError("the provider ended before it listened")

    async def kill(self) -> None:
        await self._end(lambda process: process.kill())

    async def terminate(self) -> int:
        return await self._end(lambda process: process.terminate())

    async def _end(self, signal: Callable[[asyncio.subprocess.Process], None]) -> int:
        process, channel = self._process, self._channel
        if process is None or channel is None:
            return 0
        self._process = self._channel = None
        signal(process)
        await process.communicate()
        # To calls under way the end of the process, not ours of the channel, is what happened.
        await channel.close(grace=CLOSE_GRACE_S)
        assert process.returncode is not None
        return process.returncode


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = 10) -> None:
    """Polls until the condition holds; fails at the deadline."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - what changes is in another process or task
            await asyncio.sleep(0.01)
