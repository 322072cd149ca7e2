"""The surroundings of a method's calls: what is refused before they begin, their ids, their numbers, their end."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import grpc
import psycopg
from google.protobuf.message import DecodeError
from grpc.aio import AbortError, AioRpcError, ServicerContext
from psycopg_pool import PoolTimeout, TooManyRequests

from chassis import errors, logs, metrics, tracing
from chassis.admission import Gate, refusal
from chassis.callers import Caller
from chassis.guard import Rule
from chassis.limits import Limits, rate_limited, too_large

log = logging.getLogger(__name__)

Context = ServicerContext[Any, Any]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # generic in its stubs only
    Handler = grpc.RpcMethodHandler

# A caller whose time is over says so itself, and is heard before our own clock says it: ours begins with its request,
# and gRPC tells us the time left rounded up, by a hundredth at most.
DEADLINE_SLACK_S: Final = 0.05
DEADLINE_SLACK_RATIO: Final = 0.01


class Observer:
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
        self._received = metrics.grpc_received.labels(*self._labels)
        self._sent = metrics.grpc_sent.labels(*self._labels)
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
            request = parsed(self._parse, sent)
        except errors.CallError as refused:
            self.refused(refused.code)
            await errors.abort(context, refused)
        logs.call_method.set(self._method)
        logs.call_request_id.set(getattr(request, "request_id", ""))
        if self._limit and not self._limit.has_room:
            # There was when it was taken up; many can be before the first of them begins.
            self.refused()
            await errors.abort(context, refusal())
        if (spans := tracing.SWITCH.spans) is not None:
            spans.begin_call(self._method, context.invocation_metadata(), logs.call_request_id.get())
        self._started.inc()
        self._received.inc()
        if self._limit:
            self._limit.begin()
        return request, time.perf_counter()

    def place(self, caller: Caller, context: Context) -> Callable[[], None]:
        """A place for a stream, to be given back by calling this. Raises CallError when its caller has too many."""
        places = ExitStack()
        if self._limits is not None:
            places.enter_context(self._limits.stream(caller, context))
        return places.close

    def sent(self) -> None:
        """A message has gone to the caller."""
        self._sent.inc()

    def succeeded(self) -> None:
        """It was answered."""
        self._ok.inc()

    async def failed(self, error: BaseException, context: Context, begin: float) -> None:
        """Counts what the call ended with; a failure that is no status yet becomes one here."""
        match error:
            case asyncio.CancelledError() | GeneratorExit():
                self._failed(_left_by(context, time.perf_counter() - begin))
            case AbortError():
                self._failed(context.code() or grpc.StatusCode.UNKNOWN)
            case Exception():
                told = _refusal(error)
                self._failed(told.code)
                await errors.abort(context, told)

    def ended(self, begin: float) -> None:
        """Whatever became of it."""
        now = time.perf_counter()
        self._seconds.observe(now - begin)
        if self._limit:
            self._limit.end(now - begin, now)
        if tracing.SWITCH.spans is not None:
            tracing.SWITCH.spans.end_call()

    def refused(self, code: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED) -> None:
        """A call that was not taken up."""
        self._started.inc()
        self._count(code)

    def _failed(self, code: grpc.StatusCode) -> None:
        self._count(code)
        if tracing.SWITCH.spans is not None:
            tracing.SWITCH.spans.fail_call(code)

    def _count(self, code: grpc.StatusCode) -> None:
        metrics.grpc_handled.labels(*self._labels, code.name).inc()


def _left_by(context: Context, took_s: float) -> grpc.StatusCode:
    """Why nobody waits for the answer any more: the caller's time is over, or the caller went away before."""
    left_s = context.time_remaining()
    if left_s is not None and left_s <= DEADLINE_SLACK_S + DEADLINE_SLACK_RATIO * took_s:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


def parsed(parse: Callable[[bytes], Any] | None, sent: bytes) -> Any:
    """The request; as it was sent for want of a parser. Raises CallError (INVALID_ARGUMENT, MALFORMED_REQUEST)."""
    if parse is None:
        return sent
    try:
        return parse(sent)
    except DecodeError:
        message = "the request is no message of this call's type"
        raise errors.CallError(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST", message) from None


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
