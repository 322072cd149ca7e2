"""Health for whoever has no certificate, as a kubelet with its gRPC probes: a port at which nothing else is asked."""

from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.server import Health

LIVE: Final = "live"
"""The name under which the process itself is asked for, whatever it waits for."""
CHECKS_MAX: Final = 100


class Probes:
    """Answers Check of grpc.health.v1, in plaintext.

    LIVE is SERVING for as long as the event loop answers: to start a process anew brings no database back. Any other
    name is what `health` says.
    """

    def __init__(self, health: Health) -> None:
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),), maximum_concurrent_rpcs=CHECKS_MAX)
        health_pb2_grpc.add_HealthServicer_to_server(_Servicer(health), self._server)

    def listen(self, address: str) -> int:
        """Opens the port at HOST:PORT; returns its number. Raises RuntimeError when it is not to be had."""
        return self._server.add_insecure_port(address)

    async def run(self) -> None:
        """Answers until cancelled."""
        await self._server.start()
        try:
            await self._server.wait_for_termination()
        finally:
            await self._server.stop(None)


class _Servicer(health_pb2_grpc.HealthServicer):
    def __init__(self, health: Health) -> None:
        self._health = health

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        if request.service == LIVE:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        return await self._health.servicer.Check(request, context)
