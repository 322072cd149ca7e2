"""A bare grpc.aio server that answers Reserve, as the baseline and the ceiling need one."""

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any, Final

import grpc

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

SERVICE: Final = "ticketrush.v1.TicketingService"
METHOD: Final = "Reserve"
GRACE_S: Final = 1.0


async def serve(handler: "Handler") -> None:
    """Answers on LISTEN_ADDRESS, which several processes may share, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = grpc.aio.server(options=(("grpc.so_reuseport", 1),))
    server.add_registered_method_handlers(SERVICE, {METHOD: handler})
    server.add_insecure_port(os.environ["LISTEN_ADDRESS"])
    await server.start()
    await stop.wait()
    await server.stop(GRACE_S)
