"""Asks a gRPC server for its health: `python -m chassis.healthcheck HOST:PORT NAME` exits with 0 if it is SERVING.

For a service to ask itself, with its own settings: NAME is that of the service, as its certificate says it. With
`--public` it is the public port, and NAME what the certificate of that one says.
"""

import os
import sys
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.settings import PREFIX
from chassis.tls import Tls, called, channel_credentials

TIMEOUT_S: Final = 2.0


def is_serving(
    address: str, timeout_s: float = TIMEOUT_S, *, credentials: grpc.ChannelCredentials | None = None, peer: str = ""
) -> bool:
    """Whether the server as a whole says SERVING; False too if it does not answer in time.

    With `credentials` it is asked by TLS, and must have a certificate of the name `peer`.
    """
    # A proxy that the environment names for the outside world knows no service of ours.
    direct = ("grpc.enable_http_proxy", 0)
    with (
        grpc.secure_channel(address, credentials, options=(direct, called(peer)))
        if credentials
        else grpc.insecure_channel(address, options=(direct,))
    ) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            # The stub package declares no methods.
            answer: health_pb2.HealthCheckResponse = stub.Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=timeout_s
            )
        except grpc.RpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def _credentials(*, public: bool) -> grpc.ChannelCredentials | None:
    """As the settings of this process's service say; None for plaintext."""
    if public:
        shown = os.environ.get(f"{PREFIX}PUBLIC_TLS_CERT")
        # Whoever shows what is in our own file is ourselves.
        return grpc.ssl_channel_credentials(Path(shown).read_bytes()) if shown else None
    cert, key, ca = (os.environ.get(f"{PREFIX}TLS_{name}") for name in ("CERT", "KEY", "CA"))
    return channel_credentials(Tls(Path(cert), Path(key), Path(ca)).current()) if cert and key and ca else None


if __name__ == "__main__":
    *_flags, _address, _name = sys.argv[1:]
    sys.exit(0 if is_serving(_address, credentials=_credentials(public="--public" in _flags), peer=_name) else 1)
