"""A connection between services on which nothing comes back any more is given up, and a new one serves."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis import channels
from chassis.server import Health, build
from tests.chassis.broker import until
from tests.chassis.proxy import proxy

KEEPALIVE_MS = 200
CALL_TIMEOUT_S = 1.0
OK = grpc.StatusCode.OK


async def test_calls_find_a_way_round_a_connection_that_went_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "KEEPALIVE_MS", KEEPALIVE_MS)
    monkeypatch.setattr(channels, "KEEPALIVE_TIMEOUT_MS", KEEPALIVE_MS)
    served, _ = build(lambda _: [], Health({}))
    port = served.add_insecure_port("127.0.0.1:0")
    await served.start()
    async with proxy(f"tcp://127.0.0.1:{port}") as wire, channels.dial(wire.url.removeprefix("tcp://")) as channel:
        assert await _call(channel) is OK
        wire.forget()
        assert await _call(channel) is not OK

        async def answered() -> bool:
            return await _call(channel) is OK

        await until(answered)
    await served.stop(None)


async def _call(channel: grpc.aio.Channel) -> grpc.StatusCode:
    stub = health_pb2_grpc.HealthStub(channel)
    # The stub package declares no methods.
    call = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT_S)  # type: ignore[attr-defined]
    code: grpc.StatusCode = await call.code()
    return code
