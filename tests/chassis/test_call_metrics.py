"""Each call is counted once, by the code with which it really ended, under the names that the gRPC ecosystem uses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import grpc
import pytest
from prometheus_client import REGISTRY

from chassis.channels import dial
from chassis.errors import CallError
from chassis.interceptor import Context
from chassis.server import Health, build
from tests.chassis.broker import until

SERVICE = "tests.Counted"
Begun = grpc.aio.UnaryUnaryCall[bytes, bytes] | grpc.aio.UnaryStreamCall[bytes, bytes]
UNARY, STREAM = "unary", "server_stream"
MESSAGES = 3
LONG_S = 600.0
SHORT_S = 0.3


@dataclass
class Counted:
    """Does with each call what it is told."""

    act: Callable[[], object] = lambda: None
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        server.add_registered_method_handlers(
            SERVICE,
            {
                "Call": grpc.unary_unary_rpc_method_handler(self._call),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            },
        )
        return [SERVICE]

    async def _call(self, request: bytes, context: Context) -> bytes:
        await self._act(context)
        return request

    async def _watch(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        for _ in range(MESSAGES):
            yield request
        await self._act(context)

    async def _act(self, context: Context) -> None:
        self.begun.set()
        done = self.act()
        if asyncio.iscoroutine(done):
            await done
        elif isinstance(done, grpc.StatusCode):
            await context.abort(done, "as told")


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
async def channel(counted: Counted) -> AsyncIterator[grpc.aio.Channel]:
    server, _ = build(counted.register, Health({}))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with dial(address) as channel:
        yield channel
    await server.stop(None)


def call(channel: grpc.aio.Channel, timeout_s: float | None = None) -> "grpc.aio.UnaryUnaryCall[bytes, bytes]":
    multicallable: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Call")
    return multicallable(b"", timeout=timeout_s)


def watch(channel: grpc.aio.Channel, timeout_s: float | None = None) -> "grpc.aio.UnaryStreamCall[bytes, bytes]":
    multicallable: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{SERVICE}/Watch")
    return multicallable(b"", timeout=timeout_s)


BEGIN: dict[str, Callable[..., Begun]] = {UNARY: call, STREAM: watch}


def shown(metric: str, kind: str, **labels: str) -> float:
    name = {UNARY: "Call", STREAM: "Watch"}[kind]
    all_labels = {"grpc_type": kind, "grpc_service": SERVICE, "grpc_method": name, **labels}
    return REGISTRY.get_sample_value(f"grpc_server_{metric}", all_labels) or 0


@dataclass
class Tally:
    """What is counted from now on, of one kind of call."""

    kind: str

    def __post_init__(self) -> None:
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        codes = {
            f"handled {code.name}": shown("handled_total", self.kind, grpc_code=code.name) for code in grpc.StatusCode
        }
        others = ("started_total", "msg_received_total", "msg_sent_total", "handling_seconds_count")
        return codes | {name: shown(name, self.kind) for name in others}

    def rises(self) -> dict[str, float]:
        return {name: now - self._before[name] for name, now in self._now().items() if now != self._before[name]}

    async def becomes(self, code: grpc.StatusCode, *, sent: int) -> None:
        """Once the call has ended, it is counted once, with this code and so many messages sent."""
        expected: dict[str, float] = {
            "started_total": 1,
            "msg_received_total": 1,
            f"handled {code.name}": 1,
            "handling_seconds_count": 1,
        }
        if sent:
            expected["msg_sent_total"] = sent
        try:
            await until(lambda: self.rises() == expected)
        except TimeoutError:
            assert self.rises() == expected  # shows the difference
            raise


async def ends(
    begun: Begun,
) -> grpc.StatusCode:
    """With what the caller sees it end."""
    return await begun.code()


def raising(error: Exception) -> Callable[[], object]:
    async def raises() -> None:
        raise error

    return raises


ENDS = {
    "an answer": (lambda: None, grpc.StatusCode.OK),
    "a refusal": (raising(CallError(grpc.StatusCode.NOT_FOUND, "NONE", "none")), grpc.StatusCode.NOT_FOUND),
    "an abort": (lambda: grpc.StatusCode.ABORTED, grpc.StatusCode.ABORTED),
    "a defect": (raising(ValueError("a defect")), grpc.StatusCode.INTERNAL),
    "a peer that is away": (
        raising(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "away")),
        grpc.StatusCode.UNAVAILABLE,
    ),
}


@pytest.mark.parametrize("kind", [UNARY, STREAM])
@pytest.mark.parametrize("end", ENDS)
async def test_a_call_is_counted_with_the_code_that_its_caller_sees(
    channel: grpc.aio.Channel, counted: Counted, kind: str, end: str
) -> None:
    counted.act, code = ENDS[end]
    tally = Tally(kind)
    begun = BEGIN[kind](channel)
    await _read(begun)
    assert await begun.code() == code
    await tally.becomes(code, sent=MESSAGES if kind == STREAM else code is grpc.StatusCode.OK)


@pytest.mark.parametrize("kind", [UNARY, STREAM])
async def test_a_caller_who_goes_away_is_counted_as_such(
    channel: grpc.aio.Channel, counted: Counted, kind: str
) -> None:
    counted.act = lambda: asyncio.sleep(LONG_S)
    tally = Tally(kind)
    begun = BEGIN[kind](channel, LONG_S)
    reading = asyncio.ensure_future(_read(begun))
    await counted.begun.wait()
    begun.cancel()
    await reading
    await tally.becomes(grpc.StatusCode.CANCELLED, sent=0 if kind == UNARY else MESSAGES)


@pytest.mark.parametrize("kind", [UNARY, STREAM])
async def test_a_caller_whose_time_is_over_is_counted_as_such(
    channel: grpc.aio.Channel, counted: Counted, kind: str
) -> None:
    counted.act = lambda: asyncio.sleep(LONG_S)
    tally = Tally(kind)
    begun = BEGIN[kind](channel, SHORT_S)
    await _read(begun)
    assert await begun.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await tally.becomes(grpc.StatusCode.DEADLINE_EXCEEDED, sent=0 if kind == UNARY else MESSAGES)


async def _read(begun: Begun) -> None:
    """Takes what comes until it ends, however it does."""
    try:
        if isinstance(begun, grpc.aio.UnaryStreamCall):
            async for _ in begun:
                pass
        else:
            await begun
    except (grpc.aio.AioRpcError, asyncio.CancelledError):
        return
