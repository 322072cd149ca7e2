"""The gRPC port of a service: what it serves, its health, and reflection for people with grpcurl."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from prometheus_client import Gauge

from chassis.admission import Admission
from chassis.guard import Guard, Unguarded
from chassis.interceptor import CallInterceptor
from chassis.limits import Limits

log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
# A caller that went silent is given up, with its streams.
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000
# How often callers may ask whether we are still there; the default takes more than one ping in 5 minutes for an attack.
PING_INTERVAL_MIN_MS = 5_000
# Admission is the services' own business: those who are too many are told RESOURCE_EXHAUSTED with RetryInfo. Whom
# they cannot even refuse in time gRPC ends from here on, bare.
PENDING_CALLS_MAX = 20_000
HEALTH_INTERVAL_S = 0.25
# A certificate is looked at once, when a connection begins: so long after it has run out, nobody comes in by it still.
CONNECTION_AGE_MAX_MS = 600_000
# Longer than any deadline within.
CONNECTION_AGE_GRACE_MS = 60_000
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # See chassis/channels.py.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MIN_MS),
    # From 1,000 calls on that wait to be taken up, gRPC by default ends some at random, bare and CANCELLED.
    ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
    ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS_MAX),
    # Two processes on one port would share its calls by chance.
    ("grpc.so_reuseport", 0),
)

# Of a port for other services, beside _OPTIONS. The public one has streams that last, and looks at no certificate.
WITHIN = (
    ("grpc.max_connection_age_ms", CONNECTION_AGE_MAX_MS),
    ("grpc.max_connection_age_grace_ms", CONNECTION_AGE_GRACE_MS),
)

# Of the public port, beside _OPTIONS. A stream that is opened and reset at once is done for its caller, but not for us:
# each waits to be taken up, with some 30 KB. Without a limit eight connections took 800 MB in a minute, and every place
# that gRPC has for calls that wait. Whoever wants more at a time opens another connection.
STREAMS_PER_CONNECTION_MAX = 1_000
PUBLIC = (("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),)

_serving = Gauge("ticketrush_serving", "1 while health says SERVING.")
_dependency_up = Gauge("ticketrush_dependency_up", "1 while what the service waits for is there.", ("dependency",))

Check = Callable[[], bool]


class Health:
    """Answers grpc.health.v1: SERVING while every named check holds, NOT_SERVING otherwise and from `stop` on."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self.servicer = _HealthServicer()
        self._checks = checks
        self._services: list[str] = [""]
        self._failing: frozenset[str] | None = None

    async def begin(self, services: Sequence[str]) -> None:
        """Starts out NOT_SERVING, for the server as a whole ("") and for each service by name."""
        self._services = ["", *services]
        await self._tell(serving=False)

    async def run(self) -> None:
        """Keeps the answer true until cancelled."""
        while True:
            failing = frozenset(name for name, holds in self._checks.items() if not holds())
            if failing != self._failing:
                self._failing = failing
                for name in self._checks:
                    _dependency_up.labels(name).set(name not in failing)
                await self._tell(serving=not failing)
                if failing:
                    log.warning("not serving, waiting for: %s", ", ".join(sorted(failing)))
                else:
                    log.info("serving")
            await asyncio.sleep(HEALTH_INTERVAL_S)

    async def stop(self) -> None:
        """NOT_SERVING for good."""
        _serving.set(0)
        await self.servicer.enter_graceful_shutdown()

    async def _tell(self, *, serving: bool) -> None:
        _serving.set(serving)
        answer = health_pb2.HealthCheckResponse
        for service in self._services:
            await self.servicer.set(service, answer.SERVING if serving else answer.NOT_SERVING)


class _HealthServicer(health_aio.HealthServicer):
    """The library's, whose List raises."""

    async def List(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - gRPC's name
        # The stubs do not know it yet.
        response: Any = health_pb2.HealthListResponse()  # type: ignore[attr-defined]
        statuses: dict[str, int] = self._server_status  # type: ignore[attr-defined] # nor this
        for name, status in statuses.items():
            response.statuses[name].status = status
        return response


def build(
    register: Callable[[grpc.aio.Server], Sequence[str]],
    health: Health,
    admission: Admission | None = None,
    guard: Guard = Unguarded(),  # noqa: B008 # holds nothing
    limits: Limits | None = None,
    *,
    options: Sequence[tuple[str, int]] = (),
) -> tuple[grpc.aio.Server, list[str]]:
    """A server with what `register` adds (it returns their full names), health, and reflection in both versions."""
    server = grpc.aio.server(interceptors=[CallInterceptor(guard, admission, limits)], options=(*_OPTIONS, *options))
    services = list(register(server))
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    visible = [
        *services,
        health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
        reflection.SERVICE_NAME,
        _REFLECTION_V1,
    ]
    _add_reflection(server, visible)
    return server, services


def add_part(server: grpc.aio.Server, service: ServiceDescriptor, servicer: object) -> str:
    """Serves those unary methods of a service that `servicer` has, the rest is UNIMPLEMENTED; returns its full name.

    For a service whose methods are owned by several processes, each of which answers its own.
    """
    handlers = {
        method.name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
        for method in service.methods
        if hasattr(servicer, method.name)
    }
    server.add_registered_method_handlers(service.full_name, handlers)
    return service.full_name


def _add_reflection(server: grpc.aio.Server, visible: Sequence[str]) -> None:
    servicer = reflection.aio.ReflectionServicer(visible)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)  # type: ignore[no-untyped-call] # has no stubs
    # The package knows only v1alpha; v1 has the same messages under another name, and newer clients ask for it first.
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(_REFLECTION_V1, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))
