"""What happens around every RPC, once: who calls, its ids for the logs, its metrics, and errors as statuses."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from chassis import errors, tokens
from chassis.admission import Admission, Gate, is_probe, refuse_unread
from chassis.callers import calling
from chassis.guard import Guard, Rule
from chassis.limits import Limits, refuse_early
from chassis.observer import Context, Handler, Observer
from chassis.observer import parsed as parse_request
from chassis.patience import Reader

__all__ = ["CallInterceptor", "Context"]

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
    observe: Observer
    handler: Handler
    refusal: Handler


def _wrap(method: str, handler: Handler, gate: Gate | None, rule: Rule | None, limits: Limits | None) -> _Method:
    observe = Observer(method, handler, gate, rule, limits)
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
            return parse_request(parse, sent)
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


def _overload_of(observe: Observer) -> Handler:
    async def call(requests: Any, context: Context) -> None:
        observe.refused()
        await refuse_unread(requests, context)

    return grpc.stream_stream_rpc_method_handler(call)


def _refusal_of(observe: Observer, refused: errors.CallError) -> Handler:
    async def call(_: Any, context: Context) -> None:
        observe.refused(refused.code)
        await errors.abort(context, refused)

    return grpc.stream_stream_rpc_method_handler(call)


def _too_early_of(observe: Observer, wait_s: float) -> Handler:
    async def call(_: Any, context: Context) -> None:
        observe.refused()
        await refuse_early(context, wait_s, "caller")

    return grpc.stream_stream_rpc_method_handler(call)


def _around_unary(
    observe: Observer, inner: Callable[[Any, Context], Awaitable[Any]]
) -> Callable[[Any, Context], Awaitable[Any]]:
    async def call(sent: bytes, context: Context) -> Any:
        request, begin = await observe.begin(sent, context)
        try:
            response = await inner(request, context)
        except BaseException as error:
            await observe.failed(error, context, begin)
            raise
        else:
            observe.sent()
            observe.succeeded()
            return response
        finally:
            observe.ended(begin)

    return call


def _around_stream(
    observe: Observer, inner: Callable[[Any, Context], AsyncIterator[Any]]
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
                    observe.sent()
            finally:
                reader.ended()
        except BaseException as error:
            await observe.failed(error, context, begin)
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
