"""`python -m bench.echo`: an empty grpc.aio server, the ceiling of anything that answers in Python.

Every Reserve is answered with the same bytes, unread; several processes may share a port.
"""

import asyncio
import os
import signal
from typing import Final

import grpc

from ticketrush.v1 import ticketing_pb2 as pb

METHOD: Final = ("ticketrush.v1.TicketingService", "Reserve")
GRACE_S: Final = 1.0
_ANSWER: Final = pb.ReserveResponse(reservation=pb.Reservation(state=pb.Reservation.STATE_HELD)).SerializeToString()


async def _answer(_: bytes, __: object) -> bytes:
    return _ANSWER


async def main() -> None:
    """Serves until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = grpc.aio.server(options=(("grpc.so_reuseport", 1),))
    service, name = METHOD
    server.add_registered_method_handlers(service, {name: grpc.unary_unary_rpc_method_handler(_answer)})
    server.add_insecure_port(os.environ["LISTEN_ADDRESS"])
    await server.start()
    await stop.wait()
    await server.stop(GRACE_S)


if __name__ == "__main__":
    asyncio.run(main())
