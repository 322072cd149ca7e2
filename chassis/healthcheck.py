"""Asks a gRPC server for its health: `python -m chassis.healthcheck HOST:PORT` exits with 0 if it is SERVING."""

import sys
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S: Final = 2.0


def is_serving(address: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether the server as a whole says SERVING; False too if it does not answer in time."""
    # A proxy that the environment names for the outside world knows no service of ours.
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            # The stub package declares no methods.
            answer: health_pb2.HealthCheckResponse = stub.Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=timeout_s
            )
        except grpc.RpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


if __name__ == "__main__":
    sys.exit(0 if is_serving(sys.argv[1]) else 1)
