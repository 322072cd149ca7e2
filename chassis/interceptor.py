"""What happens around every RPC, once: its ids for the logs, its metrics, and the mapping of errors to statuses."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import psycopg
from grpc.aio import AbortError, AioRpcError, ServicerContext
from psycopg_pool import PoolTimeout, TooManyRequests

from chassis import errors, logs, metrics

log = logging.getLogger(__name__)

Context = ServicerContext[Any, Any]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # generic in its stubs only
    Handler = grpc.RpcMethodHandler
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]
_OWN_PREFIX = "/grpc."


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each unary-unary and unary-stream method once and remembers the wrapped handler: it is on the hot path."""

    def __init__(self) -> None:
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(_OWN_PREFIX) or handler.request_streaming:
            return handler
        self._wrapped[method] = wrapped = _wrap(method, handler)
        return wrapped


def _wrap(method: str, handler: Handler) -> Handler:
    # The stubs know only the handlers of the synchronous server.
    inner: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _around_stream(method, inner), handler.request_deserializer, handler.response_serializer
        )
    return grpc.unary_unary_rpc_method_handler(
        _around_unary(method, inner), handler.request_deserializer, handler.response_serializer
    )


def _around_unary(
    method: str, inner: Callable[[Any, Context], Awaitable[Any]]
) -> Callable[[Any, Context], Awaitable[Any]]:
    observe = _Observer(method, "unary")

    async def call(request: Any, context: Context) -> Any:
        async with observe(request, context):
            return await inner(request, context)

    return call


def _around_stream(
    method: str, inner: Callable[[Any, Context], AsyncIterator[Any]]
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    observe = _Observer(method, "server_stream")

    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        async with observe(request, context):
            async for response in inner(request, context):
                yield response

    return call


class _Observer:
    """The surroundings of one method's calls, its metric children bound beforehand."""

    def __init__(self, method: str, kind: str) -> None:
        self._method = method
        _, service, name = method.split("/")
        self._labels = (kind, service, name)
        self._started = metrics.grpc_started.labels(*self._labels)
        self._seconds = metrics.grpc_seconds.labels(*self._labels)
        self._ok = metrics.grpc_handled.labels(*self._labels, "OK")

    @asynccontextmanager
    async def __call__(self, request: Any, context: Context) -> AsyncIterator[None]:
        logs.call_method.set(self._method)
        logs.call_request_id.set(getattr(request, "request_id", ""))
        self._started.inc()
        begin = time.perf_counter()
        try:
            yield
            self._ok.inc()
        except asyncio.CancelledError:
            self._count(grpc.StatusCode.CANCELLED)
            raise
        except AbortError:
            self._count(context.code() or grpc.StatusCode.UNKNOWN)
            raise
        except Exception as error:  # noqa: BLE001 - the one place where any failure of a call becomes its status
            refusal = _refusal(error)
            self._count(refusal.code)
            await errors.abort(context, refusal)
        finally:
            self._seconds.observe(time.perf_counter() - begin)

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
