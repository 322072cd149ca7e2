"""The port at which a kubelet asks, without a certificate, whether a process lives and whether it serves."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from chassis.channels import dial
from chassis.probes import LIVE, Probes
from chassis.server import Health
from chassis.settings import PREFIX
from tests.chassis.broker import until
from tests.chassis.certificates import Office

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
START_TIMEOUT_S = 60
CHECK = "/grpc.health.v1.Health/Check"


@asynccontextmanager
async def asked(health: Health) -> AsyncIterator[Any]:
    """A call by which the probes of a process with this health are asked by name."""
    probes = Probes(health)
    port = probes.listen("127.0.0.1:0")
    running = asyncio.create_task(probes.run())
    async with asking(port) as ask:
        yield ask
    running.cancel()
    await asyncio.wait({running})


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[Any]:
    """A call for the health of a name, without a certificate."""
    async with dial(f"127.0.0.1:{port}") as channel:
        line: Any = channel

        async def ask(name: str = "", method: str = CHECK) -> int:
            request = health_pb2.HealthCheckRequest(service=name).SerializeToString()
            answer = await line.unary_unary(method)(request, wait_for_ready=True, timeout=START_TIMEOUT_S)
            return health_pb2.HealthCheckResponse.FromString(answer).status

        yield ask


async def test_who_waits_for_a_database_lives_and_does_not_serve() -> None:
    is_up = False
    health = Health({"database": lambda: is_up})
    await health.begin([])
    telling = asyncio.create_task(health.run())
    async with asked(health) as ask:
        assert (await ask(LIVE), await ask()) == (SERVING, NOT_SERVING)
        is_up = True

        async def serves() -> bool:
            return bool(await ask() == SERVING)

        await until(serves)
        # From SIGTERM on no more work is wanted, and what is in hand is not to be cut short by a restart.
        await health.stop()
        assert (await ask(LIVE), await ask()) == (SERVING, NOT_SERVING)
    telling.cancel()


async def test_nothing_but_check_is_answered() -> None:
    async with asked(Health({})) as ask:
        for method in ("/grpc.health.v1.Health/List", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(method=method)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await ask("somebody")
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_service_that_finds_neither_database_nor_broker_lives(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.issue("scheduler")
    cert, key, ca = office.files("scheduler")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port, nowhere = taken.getsockname()[1], "127.0.0.1:1"
    settings = {
        "LISTEN_ADDRESS": "127.0.0.1:0",
        "METRICS_ADDRESS": "127.0.0.1:0",
        "HEALTH_ADDRESS": f"127.0.0.1:{port}",
        "PAYMENTS_ADDRESS": nowhere,
        "AMQP_URL": f"amqp://{nowhere}/",
        "DATABASE_URL": f"postgresql://{nowhere}/ticketrush",
    } | {"TLS_CERT": str(cert), "TLS_KEY": str(key), "TLS_CA": str(ca)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scheduler", env=os.environ | {PREFIX + name: value for name, value in settings.items()}
    )
    async with asking(port) as ask:
        assert (await ask(LIVE), await ask()) == (SERVING, NOT_SERVING)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
