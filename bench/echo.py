"""`python -m bench.echo`: an empty grpc.aio server, the ceiling of anything that answers in Python.

Every Reserve is answered with the same bytes, unread; several processes may share a port.
"""

from typing import Final

import grpc
import uvloop

from bench.serving import serve
from ticketrush.v1 import ticketing_pb2 as pb

_ANSWER: Final = pb.ReserveResponse(reservation=pb.Reservation(state=pb.Reservation.STATE_HELD)).SerializeToString()


async def _answer(_: bytes, __: object) -> bytes:
    return _ANSWER


if __name__ == "__main__":
    uvloop.run(serve(grpc.unary_unary_rpc_method_handler(_answer)))
