"""What is behind chassis/tracing.py once somebody traces: OpenTelemetry's SDK, and its sender to an OTLP receiver."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Thread
from typing import Any, Final

import grpc
from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ticketrush.messages.v1 import messages_pb2 as pb

# What waits to be sent; what comes while it is full is dropped, for a receiver may be away for long.
QUEUE_SPANS_MAX: Final = 4_096
EXPORT_SPANS_MAX: Final = 512
EXPORT_INTERVAL_MS: Final = 1_000
EXPORT_TIMEOUT_S: Final = 5
CLOSE_TIMEOUT_S: Final = 2.0
# A consumer's batch, chassis/consumer.py.
LINKS_MAX: Final = 512
HEADER: Final = "traceparent"
_SAMPLED: Final = "-01"
_FAULTS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Codes that are the server's doing; the others are answers."""

_propagator: Final = TraceContextTextMapPropagator()
_subjects: ContextVar[dict[str, str] | None] = ContextVar("traced_subjects", default=None)


class Spans:
    """The spans of one process. `ratio` of all traces are taken, chosen by their id where they begin.

    Behind an address that `is_public` what a caller says of its own trace is not believed: its id is taken over, and
    chosen or not as any other.
    """

    def __init__(self, service: str, endpoint: str, ratio: float, *, is_public: bool) -> None:
        by_id = TraceIdRatioBased(ratio)
        sampler = ParentBased(root=by_id, remote_parent_sampled=by_id) if is_public else ParentBased(root=by_id)
        self._provider = TracerProvider(
            sampler=sampler,
            resource=Resource.create({"service.name": service, "service.namespace": "ticketrush"}),
            span_limits=SpanLimits(max_links=LINKS_MAX),
            shutdown_on_exit=False,
        )
        plaintext = endpoint.startswith("http://")
        self._exporter = OTLPSpanExporter(endpoint=endpoint, insecure=plaintext, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=QUEUE_SPANS_MAX,
                max_export_batch_size=EXPORT_SPANS_MAX,
                schedule_delay_millis=EXPORT_INTERVAL_MS,
            )
        )
        self._tracer = self._provider.get_tracer("ticketrush")
        self.interceptors: list[Any] = [_Calling(self)]

    def close(self) -> None:
        """Sends what waits, for at most CLOSE_TIMEOUT_S."""
        # It knows no bound of its own, and a process that stops must not wait for it.
        flushing = Thread(target=self._provider.force_flush, daemon=True)
        flushing.start()
        flushing.join(CLOSE_TIMEOUT_S)
        self._exporter.shutdown()

    def current(self) -> str:
        """The context of what is being done now; empty without."""
        return _text(get_current_span())

    def begin_call(self, method: str, metadata: Iterable[tuple[str, str | bytes]] | None, request_id: str) -> None:
        """A call has been taken up; it is what is being done now, in this task, until `end_call`."""
        carried = next((value for key, value in metadata or () if key == HEADER), "")
        parent = _propagator.extract({HEADER: carried}, Context()) if isinstance(carried, str) else Context()
        span = self._tracer.start_span(method[1:], parent, SpanKind.SERVER, {"rpc.system": "grpc"})
        if request_id and span.is_recording():
            span.set_attribute("ticketrush.request_id", request_id)
        # gRPC gives each call a task of its own, with which it goes.
        contexts.attach(set_span_in_context(span, Context()))

    def fail_call(self, code: grpc.StatusCode) -> None:
        """What the call ends with, other than an answer."""
        _tell(get_current_span(), code)

    def end_call(self) -> None:
        """It has ended."""
        get_current_span().end()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A part of what is being done now, if its trace is taken."""
        if not get_current_span().is_recording():
            yield
            return
        with self._tracer.start_as_current_span(name):
            yield

    @contextmanager
    def meeting(self, name: str, traceparents: Sequence[str]) -> Iterator[Sequence[str]]:
        """One span in each trace that is taken, linked with the first, which is what is being done now."""
        spans = [self._begin(name, text, SpanKind.CONSUMER, len(traceparents)) for text in traceparents]
        taken = [span for span in spans if span is not None]
        if not taken:
            with _nothing_is_done_now():
                yield traceparents
            return
        first, *others = taken
        for other in others:
            first.add_link(other.get_span_context())
            other.add_link(first.get_span_context())
        try:
            with use_span(first):
                yield [_text(span) if span else text for span, text in zip(spans, traceparents, strict=True)]
        finally:
            for span in taken:
                span.end()

    @contextmanager
    def handling(self, name: str, envelopes: Sequence[pb.Envelope]) -> Iterator[None]:
        """A meeting of envelopes, whose subjects `about` knows meanwhile."""
        with self.meeting(name, [envelope.traceparent for envelope in envelopes]) as going_on:
            subjects = {envelope.subject_id: text for envelope, text in zip(envelopes, going_on, strict=True)}
            token = _subjects.set(subjects)
            try:
                yield
            finally:
                _subjects.reset(token)

    def about(self, subject_id: str) -> str:
        """The context of a subject in hand, else of what is being done now."""
        known = (_subjects.get() or {}).get(subject_id)
        return self.current() if known is None else known

    def concerns(self, envelope: pb.Envelope, subject_id: str) -> None:
        """Another subject of an envelope in hand."""
        subjects = _subjects.get()
        if subjects is not None:
            subjects[subject_id] = subjects.get(envelope.subject_id, "")

    def sending(self, routing_key: str, envelope: bytes, confirm: "asyncio.Future[None]") -> None:
        """An envelope is on its way to the broker until its confirm."""
        span = self._begin(f"{routing_key} publish", pb.Envelope.FromString(envelope).traceparent, SpanKind.PRODUCER)
        if span is not None:
            confirm.add_done_callback(lambda done: _confirmed(span, done))

    def arrived(self, name: str, envelope: pb.Envelope) -> None:
        """A span without length, where a trace ends."""
        span = self._begin(name, envelope.traceparent, SpanKind.CONSUMER)
        if span is not None:
            span.end()

    @contextmanager
    def calling(self, method: str) -> Iterator[Span]:
        """A call to another service."""
        about = {"rpc.system": "grpc"}
        with self._tracer.start_as_current_span(method[1:], kind=SpanKind.CLIENT, attributes=about) as span:
            yield span

    def _begin(self, name: str, traceparent: str, kind: SpanKind, count: int = 1) -> Span | None:
        """A span in that trace; None if it is not taken."""
        if not traceparent.endswith(_SAMPLED):
            return None
        parent = _propagator.extract({HEADER: traceparent}, Context())
        span = self._tracer.start_span(name, parent, kind, {"messaging.batch.message_count": count})
        return span if span.is_recording() else None


class _Calling(grpc.aio.UnaryUnaryClientInterceptor):
    """Makes each unary call of a channel a span of what is being done, and takes the context along."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        if not get_current_span().get_span_context().is_valid:
            return await continuation(client_call_details, request)
        method = client_call_details.method
        with self._spans.calling(method if isinstance(method, str) else method.decode()) as span:
            metadata = grpc.aio.Metadata(*(client_call_details.metadata or ()), (HEADER, _text(span)))
            # A named tuple, which its stubs do not know.
            details: Any = client_call_details
            call = await continuation(details._replace(metadata=metadata), request)
            _tell(span, await call.code())
            return call


@contextmanager
def _nothing_is_done_now() -> Iterator[None]:
    token = contexts.attach(Context())
    try:
        yield
    finally:
        contexts.detach(token)


def _text(span: Span) -> str:
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags & 1:02x}" if found.is_valid else ""


def _tell(span: Span, code: grpc.StatusCode) -> None:
    if span.is_recording():
        span.set_attribute("rpc.grpc.status_code", code.value[0])
        if code in _FAULTS:
            span.set_status(Status(StatusCode.ERROR, code.name))


def _confirmed(span: Span, confirm: "asyncio.Future[None]") -> None:
    if confirm.cancelled():
        span.set_status(Status(StatusCode.ERROR, "not wanted any more"))
    elif (error := confirm.exception()) is not None:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
    span.end()
