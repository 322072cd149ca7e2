"""The gRPC port of a service under a rush of calls, and what it says of itself to whoever asks."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from chassis.channels import dial
from chassis.server import Health, build
from tests.chassis.broker import running, until
from tests.e2e.office import Refusal, refusal

# Beyond the number from which gRPC itself ends every call that it cannot hand over at once.
BURST = 4_000
MALFORMED = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
REFLECTION = ("/grpc.reflection.v1.ServerReflection", "/grpc.reflection.v1alpha.ServerReflection")


@asynccontextmanager
async def port(health: Health) -> AsyncIterator[int]:
    served, _ = build(lambda _: [], health)
    number = served.add_insecure_port("127.0.0.1:0")
    await served.start()
    yield number
    await served.stop(None)


async def test_each_call_of_a_burst_is_answered() -> None:
    served, _ = build(lambda _: [], Health({}))
    port = served.add_insecure_port("127.0.0.1:0")
    await served.start()
    async with dial(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        # The stub package declares no methods.
        calls = [stub.Check(health_pb2.HealthCheckRequest()) for _ in range(BURST)]  # type: ignore[attr-defined]
        codes = Counter(await asyncio.gather(*(call.code() for call in calls)))
    assert codes == {grpc.StatusCode.OK: BURST}
    await served.stop(None)


async def test_health_lists_what_there_is() -> None:
    health = Health({})
    await health.begin(["tickets"])
    async with port(health) as number, dial(f"127.0.0.1:{number}") as channel:
        line: Any = channel
        # The stubs do not know it yet.
        answer = await line.unary_unary("/grpc.health.v1.Health/List")(b"")
    listed = health_pb2.HealthListResponse.FromString(answer)  # type: ignore[attr-defined]
    assert {name: found.status for name, found in listed.statuses.items()} == dict.fromkeys(
        ("", "tickets"), health_pb2.HealthCheckResponse.NOT_SERVING
    )


async def test_the_metrics_say_what_health_says_and_whom_it_waits_for() -> None:
    there = {"broker": True, "database": False}
    health = Health({name: partial(there.__getitem__, name) for name in there})

    def shown() -> tuple[float | None, ...]:
        serving = REGISTRY.get_sample_value("ticketrush_serving")
        return (serving, *(REGISTRY.get_sample_value("ticketrush_dependency_up", {"dependency": one}) for one in there))

    await health.begin([])
    async with running(health.run()):
        await until(lambda: shown() == (0, 1, 0))
        there["database"] = True
        await until(lambda: shown() == (1, 1, 1))
    await health.stop()
    assert shown()[0] == 0


async def test_what_is_no_request_of_grpcs_own_services_is_refused_as_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    garbage = b"\xff\xff no message"
    async with port(Health({})) as number, dial(f"127.0.0.1:{number}") as channel:
        line: Any = channel
        for method in ("Check", "List"):
            assert await refusal(line.unary_unary(f"/grpc.health.v1.Health/{method}")(garbage)) == MALFORMED
        watching = line.unary_stream("/grpc.health.v1.Health/Watch")(garbage)
        assert await refusal(watching.read()) == MALFORMED
        for service in REFLECTION:
            talking = line.stream_stream(f"{service}/ServerReflectionInfo")(iter([garbage]))
            assert await refusal(talking.read()) == MALFORMED
    assert not caplog.records
