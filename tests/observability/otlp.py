"""A receiver of traces on loopback, as OTLP by gRPC has it: it keeps what it is sent."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

from tests.e2e.office import eventually

SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass(frozen=True)
class Span:
    """One as it was sent, with the name of its service."""

    service: str
    sent: Sent

    @property
    def name(self) -> str:
        return self.sent.name

    @property
    def trace_id(self) -> str:
        return self.sent.trace_id.hex()

    @property
    def hop(self) -> str:
        return f"{self.service}: {self.name}"

    def attribute(self, key: str) -> str | int | None:
        """What it says of itself."""
        for one in self.sent.attributes:
            if one.key == key:
                return one.value.int_value if one.value.HasField("int_value") else one.value.string_value
        return None


@dataclass
class Tree:
    """The spans of one trace."""

    spans: Sequence[Span]
    _by_id: dict[bytes, Span] = field(init=False)

    def __post_init__(self) -> None:
        self._by_id = {span.sent.span_id: span for span in self.spans}

    @property
    def roots(self) -> list[Span]:
        """Those without a parent, and those whose parent nobody has seen."""
        return [span for span in self.spans if span.sent.parent_span_id not in self._by_id]

    def way_to(self, hop: str) -> list[str]:
        """The hops from the root to that one, of which there is one."""
        [span] = [span for span in self.spans if span.hop == hop]
        way = [span.hop]
        while (parent := self._by_id.get(span.sent.parent_span_id)) is not None:
            span = parent
            way.append(span.hop)
        return way[::-1]

    def __str__(self) -> str:
        return "\n".join(sorted(span.hop for span in self.spans))


class Receiver:
    """`spans` are all that have come."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    async def take(self, request: ExportTraceServiceRequest, _: object) -> ExportTraceServiceResponse:
        for one in request.resource_spans:
            about = {attribute.key: attribute.value.string_value for attribute in one.resource.attributes}
            self.spans += [Span(about["service.name"], span) for scope in one.scope_spans for span in scope.spans]
        return ExportTraceServiceResponse()

    def tree(self, trace_id: str) -> Tree:
        """What has come of one trace."""
        return Tree([span for span in self.spans if span.trace_id == trace_id])

    def traces(self, hop: str) -> list[str]:
        """The ids of the traces that pass through this hop, in the order in which they came."""
        return [span.trace_id for span in self.spans if span.hop == hop]

    async def whole(self, trace_id: str, is_whole: Callable[[Tree], bool]) -> Tree:
        """The trace, once it is whole: each process sends its part when it likes."""

        async def has_come() -> bool:
            return is_whole(self.tree(trace_id))

        await eventually(has_come, lambda: f"not whole:\n{self.tree(trace_id)}")
        return self.tree(trace_id)


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, str]]:
    """A receiver and its URL."""
    receiver = Receiver()
    server = grpc.aio.server()
    export = grpc.unary_unary_rpc_method_handler(
        receiver.take,
        request_deserializer=ExportTraceServiceRequest.FromString,
        response_serializer=ExportTraceServiceResponse.SerializeToString,
    )
    server.add_registered_method_handlers(SERVICE, {"Export": export})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield receiver, f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)
