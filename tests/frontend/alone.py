"""The compiled front as a process of its own, in front of a gateway that the test plays."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from chassis.server import PING_INTERVAL_MIN_MS
from tests.frontend.servicer import Desk
from ticketrush.v1 import catalog_pb2_grpc, ticketing_pb2_grpc

START_TIMEOUT_S: Final = 30
END_TIMEOUT_S: Final = 20
NOWHERE: Final = "127.0.0.1:1"


@asynccontextmanager
async def desk(
    address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[tuple[Desk, str]]:
    """A gateway, and its address."""
    played = Desk()  # type: ignore[abstract] # it answers what is asked here
    # As often as the gateway lets callers ask whether it is still there.
    options = (("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MIN_MS),)
    server = grpc.aio.server(options=options)
    ticketing_pb2_grpc.add_TicketingServiceServicer_to_server(played, server)
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(played, server)
    own = health.HealthServicer()
    await own.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(own, server)
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield played, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@dataclass
class Alone:
    """A front of its own. `log` are its lines so far; `client` calls it."""

    process: asyncio.subprocess.Process
    address: str
    metrics: str
    client: httpx.AsyncClient
    log: list[dict[str, Any]] = field(default_factory=list)

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(END_TIMEOUT_S):
            return await self.process.wait()

    async def figure(self, name: str) -> float:
        page = await self.client.get(f"http://{self.metrics}/metrics")
        lines = [line for line in page.text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def resident_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def environment(gateway: str, **settings: str) -> dict[str, str]:
    """Of a front on free ports."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TICKETRUSH_")}
    chosen = {"LISTEN_ADDRESS": "127.0.0.1:0", "METRICS_ADDRESS": "127.0.0.1:0", "GATEWAY_ADDRESS": gateway} | settings
    return inherited | {f"TICKETRUSH_{name}": value for name, value in chosen.items()}


@asynccontextmanager
async def alone(
    program: str, gateway: str = NOWHERE, *, verify: Any = True, scheme: str = "http", **settings: str
) -> AsyncIterator[Alone]:
    process = await asyncio.create_subprocess_exec(
        program, stdout=asyncio.subprocess.PIPE, env=environment(gateway, **settings)
    )
    log: list[dict[str, Any]] = []
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not (log and log[-1]["message"] == "listening"):
                log.append(json.loads(await process.stdout.readline()))
        reading = asyncio.create_task(_read(process.stdout, log.append))
        address = log[-1]["address"]
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        url = f"{scheme}://{address}"
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits, verify=verify) as client:
            yield Alone(process, address, log[-1]["metrics"], client, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    await reading


async def _read(stdout: asyncio.StreamReader, take: Callable[[dict[str, Any]], None]) -> None:
    async for line in stdout:
        take(json.loads(line))
