"""What happens around every RPC, once: who calls, its ids for the logs, its metrics, and errors as statuses."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import psycopg
from google.protobuf.message import DecodeError
from grpc.aio import AbortError, AioRpcError, ServicerContext
from psycopg_pool import PoolTimeout, TooManyRequests

from chassis import errors, logs, metrics, tokens
from chassis.admission import Admission, Gate, is_probe, refusal, refuse_unread
from chassis.callers import Caller, calling
from chassis.guard import Guard, Rule
from chassis.limits import Limits, rate_limited, refuse_early, too_large
from chassis.patience import Reader

log = logging.getLogger(__name__)

Context = ServicerContext[Any, Any]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # generic in its stubs only
    Handler = grpc.RpcMethodHandler
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]
_OWN_PREFIX = "/grpc."


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each unary-unary and unary-stream method once and remembers the wrapped handler: it is on the hot path.

    Whom `guard` does not let in is refused before the message is read; with `admission`, so are those who are too many,
    and with `limits` those who call too often.
    """

    def __init__(self, guard: Guard, admission: Admission | None = None, limits: Limits | None = None) -> None:
        self._guard = guard
        self._admission = admission
        self._limits = limits
        self._wrapped: dict[str, _Method] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            rule = self._guard.rule(method)
            if rule is None and method.startswith(_OWN_PREFIX):
                return _well_formed(handler)
            if handler.request_streaming:
                raise AssertionError(f"{method} takes a stream of requests, around which nothing is done here")
            gate = self._admission.gate(method) if self._admission else None
            known = self._wrapped[method] = _wrap(method, handler, gate, rule, self._limits)
        metadata = handler_call_details.invocation_metadata or ()
        gate = known.gate
        if gate is not None:
            if is_probe(metadata):
                return _PROBED
            gate.backlog.called()
            if gate.is_shut:
                return known.refusal
        if known.rule is not None:
            try:
                caller = await known.rule.caller(metadata)
            except errors.CallError as refused:
                return _refusal_of(known.observe, refused)
            calling.set(caller)
            if self._limits is not None and (wait_s := self._limits.caller_wait_s(caller)):
                return _too_early_of(known.observe, wait_s)
        return known.handler


# To gRPC what is refused is a stream of requests: only those are not read before they are handled.
_PROBED: Handler = grpc.stream_stream_rpc_method_handler(refuse_unread)


@dataclass(frozen=True)
class _Method:
    gate: Gate | None
    rule: Rule | None
    observe: "_Observer"
    handler: Handler
    refusal: Handler


def _wrap(method: str, handler: Handler, gate: Gate | None, rule: Rule | None, limits: Limits | None) -> _Method:
    observe = _Observer(method, handler, gate, rule, limits)
    # The stubs know only the handlers of the synchronous server.
    inner: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary
    if handler.response_streaming:
        wrapped: Handler = grpc.unary_stream_rpc_method_handler(
            _around_stream(observe, inner), None, handler.response_serializer
        )
    else:
        wrapped = grpc.unary_unary_rpc_method_handler(_around_unary(observe, inner), None, handler.response_serializer)
    return _Method(gate, rule, observe, wrapped, _overload_of(observe))


def _well_formed(handler: Handler) -> Handler:
    """One of gRPC's own services, asked only what is a request of its type.

    What is none, gRPC itself would answer UNKNOWN, with a traceback in the log: to anybody, at no cost.
    """
    parse: Any = handler.request_deserializer
    inner: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary
    talks: Any = handler.stream_stream

    async def parsed(sent: bytes, context: Context) -> Any:
        try:
            return _parsed(parse, sent)
        except errors.CallError as refused:
            await errors.abort(context, refused)

    async def all_parsed(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        async for sent in requests:
            yield await parsed(sent, context)

    async def call(sent: bytes, context: Context) -> Any:
        return await inner(await parsed(sent, context), context)

    async def talk(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        async for response in talks(all_parsed(requests, context), context):
            yield response

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(talk, None, handler.response_serializer)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(call, None, handler.response_serializer)
    return grpc.unary_unary_rpc_method_handler(call, None, handler.response_serializer)


def _parsed(parse: Callable[[bytes], Any] | None, sent: bytes) -> Any:
    """The request; as it was sent for want of a parser. Raises CallError (INVALID_ARGUMENT, MALFORMED_REQUEST)."""
    if parse is None:
        return sent
    try:
        return parse(sent)
    except DecodeError:
        message = "the request is no message of this call's type"
        raise errors.CallError(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST", message) from None


def _overload_of(observe: "_Observer") -> Handler:
    async def call(requests: Any, context: Context) -> None:
        observe.refused()
        await refuse_unread(requests, context)

    return grpc.stream_stream_rpc_method_handler(call)


def _refusal_of(observe: "_Observer", refused: errors.CallError) -> Handler:
    async def call(_: Any, context: Context) -> None:
        observe.refused(refused.code)
        await errors.abort(context, refused)

    return grpc.stream_stream_rpc_method_handler(call)


def _too_early_of(observe: "_Observer", wait_s: float) -> Handler:
    async def call(_: Any, context: Context) -> None:
        observe.refused()
        await refuse_early(context, wait_s, "caller")

    return grpc.stream_stream_rpc_method_handler(call)


def _around_unary(
    observe: "_Observer", inner: Callable[[Any, Context], Awaitable[Any]]
) -> Callable[[Any, Context], Awaitable[Any]]:
    async def call(sent: bytes, context: Context) -> Any:
        request, begin = await observe.begin(sent, context)
        try:
            response = await inner(request, context)
        except BaseException as error:
            await observe.failed(error, context)
            raise
        else:
            observe.succeeded()
            return response
        finally:
            observe.ended(begin)

    return call


def _around_stream(
    observe: "_Observer", inner: Callable[[Any, Context], AsyncIterator[Any]]
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def call(sent: bytes, context: Context) -> AsyncIterator[Any]:
        request, begin = await observe.begin(sent, context)
        try:
            caller = calling.get()
            reader = Reader(context, observe.place(caller, context))
            try:
                async for response in inner(request, context):
                    _refuse_after(caller.valid_until_s)
                    reader.begin()
                    yield response
                    reader.took()
            finally:
                reader.ended()
        except BaseException as error:
            await observe.failed(error, context)
            raise
        else:
            observe.succeeded()
        finally:
            observe.ended(begin)

    return call


def _refuse_after(valid_until_s: float) -> None:
    """Ends a stream that outlives its caller's token: nothing is told to whom nobody vouches for any more."""
    if time.time() >= valid_until_s:
        raise tokens.expired()


class _Observer:
    """The surroundings of one method's calls, its metric children bound beforehand."""

    def __init__(
        self, method: str, handler: Handler, gate: Gate | None, rule: Rule | None, limits: Limits | None
    ) -> None:
        self._method = method
        self._parse = handler.request_deserializer
        self._rule = rule
        self._limits = limits
        self._bytes_max = limits.request_bytes(method) if limits else None
        self._limit = gate.limit if gate else None
        _, service, name = method.split("/")
        self._labels = ("server_stream" if handler.response_streaming else "unary", service, name)
        self._started = metrics.grpc_started.labels(*self._labels)
        self._seconds = metrics.grpc_seconds.labels(*self._labels)
        self._ok = metrics.grpc_handled.labels(*self._labels, "OK")

    async def begin(self, sent: bytes, context: Context) -> tuple[Any, float]:
        """The request, and when the call began, for `ended`.

        Aborts the call when its peer may not make it, when it comes too soon or too large, and when it is one too many.
        """
        try:
            if self._rule is not None:
                self._rule.check_peer(context)
            if self._limits is not None:
                if wait_s := self._limits.address_wait_s(context):
                    self.refused()
                    message, trailers = rate_limited(wait_s, "address")
                    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message, trailers)
                if self._bytes_max is not None and len(sent) > self._bytes_max:
                    raise too_large(len(sent), self._bytes_max)
            request = _parsed(self._parse, sent)
        except errors.CallError as refused:
            self.refused(refused.code)
            await errors.abort(context, refused)
        logs.call_method.set(self._method)
        logs.call_request_id.set(getattr(request, "request_id", ""))
        if self._limit and not self._limit.has_room:
            # There was when it was taken up; many can be before the first of them begins.
            self.refused()
            await errors.abort(context, refusal())
        self._started.inc()
        if self._limit:
            self._limit.begin()
        return request, time.perf_counter()

    def place(self, caller: Caller, context: Context) -> Callable[[], None]:
        """A place for a stream, to be given back by calling this. Raises CallError when its caller has too many."""
        places = ExitStack()
        if self._limits is not None:
            places.enter_context(self._limits.stream(caller, context))
        return places.close

    def succeeded(self) -> None:
        """It was answered."""
        self._ok.inc()

    async def failed(self, error: BaseException, context: Context) -> None:
        """Counts what the call ended with; a failure that is no status yet becomes one here."""
        match error:
            case asyncio.CancelledError() | GeneratorExit():
                self._count(grpc.StatusCode.CANCELLED)
            case AbortError():
                self._count(context.code() or grpc.StatusCode.UNKNOWN)
            case Exception():
                told = _refusal(error)
                self._count(told.code)
                await errors.abort(context, told)

    def ended(self, begin: float) -> None:
        """Whatever became of it."""
        now = time.perf_counter()
        self._seconds.observe(now - begin)
        if self._limit:
            self._limit.end(now - begin, now)

    def refused(self, code: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED) -> None:
        """A call that was not taken up."""
        self._started.inc()
        self._count(code)

    def _count(self, code: grpc.StatusCode) -> None:
        metrics.grpc_handled.labels(*self._labels, code.name).inc()


def _refusal(error: Exception) -> errors.CallError:
    match error:
        case errors.CallError():
            return error
        case AioRpcError():
            return errors.from_upstream(error)
        case PoolTimeout() | TooManyRequests() | psycopg.OperationalError():
            log.warning("database unavailable: %s", error)
            return errors.unavailable("DATABASE_UNAVAILABLE", "the database does not answer now; try again")
        case _:
            log.error("call failed", exc_info=error)
            return errors.CallError(grpc.StatusCode.INTERNAL, "INTERNAL", "an error on our side; it has been logged")
