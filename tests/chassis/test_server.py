"""The gRPC port of a service under a rush of calls."""

import asyncio
from collections import Counter

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.channels import dial
from chassis.server import Health, build

# Beyond the number from which gRPC itself ends every call that it cannot hand over at once.
BURST = 4_000


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
