"""Who takes too much of a port is refused over real connections, told for how long, and others are not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from chassis import patience
from chassis.buckets import Rate
from chassis.callers import Caller, Metadata
from chassis.channels import dial
from chassis.errors import DETAILS_KEY
from chassis.guard import Unguarded
from chassis.limits import Budget, Limits
from chassis.server import Health, build

WORK, STREAM = "/tests.Limited/Work", "/tests.Limited/Stream"
FEW = Budget(Rate(per_s=0.5, burst=3), streams=3)
TWO_STREAMS = Budget(Rate(per_s=1_000, burst=1_000), streams=2)
MANY = Budget(Rate(per_s=1_000, burst=1_000), streams=1_000)
BYTES_MAX = 100


@dataclass
class Served:
    """Counts what reaches it. A stream says what it is sent and then nothing more, or one word again and again."""

    parsed: int = 0
    word: bytes = b""
    streams_ended: asyncio.Event = field(default_factory=asyncio.Event)

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        server.add_registered_method_handlers(
            "tests.Limited",
            {
                "Work": grpc.unary_unary_rpc_method_handler(self._work, request_deserializer=self._parse),
                "Stream": grpc.unary_stream_rpc_method_handler(self._stream),
            },
        )
        return ["tests.Limited"]

    def _parse(self, sent: bytes) -> bytes:
        self.parsed += 1
        return sent

    async def _work(self, request: bytes, _: object) -> bytes:
        return request

    async def _stream(self, request: bytes, _: object) -> AsyncIterator[bytes]:
        try:
            while self.word:
                yield self.word
            yield request
            await asyncio.Event().wait()
        finally:
            self.streams_ended.set()


class Named(Unguarded):
    """Callers are who they say they are: `subject` and `roles`."""

    def rule(self, method: str) -> "Named | None":
        return None if method.startswith("/grpc.") else self

    async def caller(self, metadata: Metadata) -> Caller:
        said = dict(metadata)
        return Caller(str(said.get("subject", "")), frozenset(str(said.get("roles", "buyer")).split(",")))

    def check_peer(self, context: object) -> None:
        """Anybody."""


def limits(
    *, buyer: Budget | None = MANY, address: Budget = MANY, loopback: bool = True, proxies: Sequence[str] = ()
) -> Limits:
    return Limits(
        roles={"buyer": buyer, "service": MANY, "operator": None},
        addresses=address,
        request_bytes=lambda method: BYTES_MAX if method == WORK else 10 * BYTES_MAX,
        proxies=[ip_network(proxy) for proxy in proxies],
        limit_loopback=loopback,
    )


@asynccontextmanager
async def serving(served: Served, limited: Limits, host: str = "127.0.0.1") -> AsyncIterator[grpc.aio.Channel]:
    server, _ = build(served.register, Health({}), None, Named(), limited)
    address = f"{host}:{server.add_insecure_port(f'{host}:0')}"
    await server.start()
    try:
        async with dial(address) as channel:
            yield channel
    finally:
        await server.stop(None)


@dataclass(frozen=True)
class Told:
    """How a call ended, and what a refusal says."""

    code: str
    reason: str = ""
    retry_after_s: float = 0.0


OK = Told("OK")


def told(error: grpc.aio.AioRpcError) -> Told:
    [details] = [value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY]
    assert isinstance(details, bytes)
    info, retry = ErrorInfo(), RetryInfo()
    for detail in Status.FromString(details).details:
        _ = detail.Unpack(info) or detail.Unpack(retry)
    return Told(error.code().name, info.reason, retry.retry_delay.ToNanoseconds() / 1e9)


async def call(channel: grpc.aio.Channel, request: bytes = b"", **metadata: str) -> Told:
    """Calls WORK once."""
    work: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(WORK)
    named = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    try:
        await work(request, metadata=named, timeout=10)
    except grpc.aio.AioRpcError as error:
        return told(error)
    return OK


async def calls(channel: grpc.aio.Channel, count: int, **metadata: str) -> list[Told]:
    return [await call(channel, b"", **metadata) for _ in range(count)]


def refused(answers: Sequence[Told]) -> int:
    """How many were; all of them for calling too often, with a time to wait."""
    others = [answer for answer in answers if answer != OK]
    assert {(answer.code, answer.reason) for answer in others} <= {("RESOURCE_EXHAUSTED", "RATE_LIMITED")}
    # One more comes each 2 s.
    assert all(0 < answer.retry_after_s <= 2 for answer in others)
    return len(others)


async def test_who_calls_too_often_is_refused_unread_and_others_are_not() -> None:
    served = Served()
    async with serving(served, limits(buyer=FEW)) as channel:
        assert refused(await calls(channel, 10, subject="ann")) == 7
        assert served.parsed == 3
        assert refused(await calls(channel, 3, subject="bob")) == 0


async def test_who_waits_as_long_as_told_is_served() -> None:
    quick = Budget(Rate(per_s=5, burst=1), streams=1)
    async with serving(Served(), limits(buyer=quick)) as channel:
        assert await call(channel, subject="ann") == OK
        early = await call(channel, subject="ann")
        await asyncio.sleep(early.retry_after_s)
        assert (early.reason, await call(channel, subject="ann")) == ("RATE_LIMITED", OK)


@pytest.mark.parametrize(
    ("roles", "served"), [("buyer", 3), ("unheard-of", 3), ("", 3), ("buyer,service", 10), ("buyer,operator", 10)]
)
async def test_a_caller_has_the_largest_budget_of_all_roles_or_the_least_there_is(roles: str, served: int) -> None:
    async with serving(Served(), limits(buyer=FEW)) as channel:
        assert 10 - refused(await calls(channel, 10, subject="ann", roles=roles)) == served


async def test_an_address_that_calls_too_often_is_refused_unparsed_whoever_calls() -> None:
    served = Served()
    async with serving(served, limits(address=FEW)) as channel:
        answers = [await call(channel, subject=f"buyer {number}", roles="operator") for number in range(10)]
        assert refused(answers) == 7
        assert served.parsed == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_loopback_is_limited_only_where_a_setting_says_so(host: str) -> None:
    async with serving(Served(), limits(address=FEW, loopback=False), host) as channel:
        assert refused(await calls(channel, 10, subject="ann")) == 0
    async with serving(Served(), limits(address=FEW), host) as channel:
        assert refused(await calls(channel, 10, subject="ann")) == 7


async def test_of_a_trusted_proxy_the_last_hop_counts() -> None:
    async with serving(Served(), limits(address=FEW, proxies=["10.0.0.0/8", "127.0.0.1"])) as channel:
        answers = [await call(channel, x_forwarded_for=f"198.51.100.{number}, 192.0.2.1") for number in range(10)]
        assert refused(answers) == 7
        assert await call(channel, x_forwarded_for="192.0.2.1, 198.51.100.7") == OK


async def test_nobody_else_is_believed_who_he_is() -> None:
    async with serving(Served(), limits(address=FEW, proxies=["10.0.0.0/8"])) as channel:
        assert refused([await call(channel, x_forwarded_for=f"192.0.2.{number}") for number in range(10)]) == 7


async def test_a_proxy_that_says_nothing_readable_is_limited_itself() -> None:
    async with serving(Served(), limits(address=FEW, proxies=["127.0.0.1"])) as channel:
        words = ["", "unknown", "192.0.2.1, ", "\u00a7".encode().decode("latin-1"), "192.0.2.1:80"] * 2
        assert refused([await call(channel, x_forwarded_for=ascii(word)) for word in words]) == 7


async def test_an_ipv6_customer_is_one_address_with_its_whole_network() -> None:
    async with serving(Served(), limits(address=FEW, proxies=["127.0.0.1"])) as channel:
        answers = [await call(channel, x_forwarded_for=f"2001:db8:0:1:{number}::1") for number in range(10)]
        assert refused(answers) == 7
        assert await call(channel, x_forwarded_for="2001:db8:0:2::1") == OK


async def test_an_ipv4_address_is_one_however_it_is_written() -> None:
    async with serving(Served(), limits(address=FEW, proxies=["127.0.0.1"])) as channel:
        answers = [await call(channel, x_forwarded_for=word) for word in ["192.0.2.1", "::ffff:192.0.2.1"] * 5]
        assert refused(answers) == 7
        assert await call(channel, x_forwarded_for="::ffff:192.0.2.2") == OK


async def test_a_request_that_is_larger_than_any_right_one_is_refused_unparsed() -> None:
    served = Served()
    async with serving(served, limits()) as channel:
        assert await call(channel, b"x" * BYTES_MAX) == OK
        assert await call(channel, b"x" * (BYTES_MAX + 1)) == Told("INVALID_ARGUMENT", "REQUEST_TOO_LARGE")
        assert served.parsed == 1


@pytest.mark.parametrize("of", ["caller", "address"])
async def test_streams_beyond_the_limit_are_refused_until_one_ends(of: str) -> None:
    served = Served()
    limited = limits(buyer=TWO_STREAMS) if of == "caller" else limits(address=TWO_STREAMS)
    async with serving(served, limited) as channel:
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(STREAM)
        first, second = [stream(b"word", metadata=(("subject", "ann"),)) for _ in range(2)]
        assert [await first.read(), await second.read()] == [b"word", b"word"]
        with pytest.raises(grpc.aio.AioRpcError) as third:
            await stream(b"word", metadata=(("subject", "ann"),)).read()
        assert told(third.value) == Told("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS", 1.0)
        first.cancel()
        await served.streams_ended.wait()
        assert await stream(b"word", metadata=(("subject", "ann"),)).read() == b"word"


async def test_a_caller_with_all_his_streams_open_takes_no_place_of_others() -> None:
    async with serving(Served(), limits(buyer=TWO_STREAMS)) as channel:
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(STREAM)
        opened = [stream(b"word", metadata=(("subject", "ann"),)) for _ in range(3)]
        with pytest.raises(grpc.aio.AioRpcError):
            _ = [await one.read() for one in opened]
        assert await stream(b"word", metadata=(("subject", "bob"),)).read() == b"word"


async def read_all(call: grpc.aio.UnaryStreamCall[bytes, bytes]) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_a_stream_that_nobody_reads_keeps_its_place_until_its_memory_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else who opens streams and reads none of them would have as many as he likes, one message long each."""
    monkeypatch.setattr(patience, "STALLED_MAX_S", 1.0)
    served = Served(word=b"x" * 1_000_000)
    async with serving(served, limits(buyer=TWO_STREAMS)) as channel:
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(STREAM)

        async def ends(call: grpc.aio.UnaryStreamCall[bytes, bytes]) -> Told:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await read_all(call)
            return told(failed.value)

        idle: list[grpc.aio.UnaryStreamCall[bytes, bytes]] = []
        refused_as = None
        # On a busy machine one may look idle and yet take its last message: that one holds nothing.
        while refused_as is None and len(idle) < 10:
            served.streams_ended.clear()
            opened = stream(b"", metadata=(("subject", "ann"),))
            try:
                await opened.read()
            except grpc.aio.AioRpcError as error:
                refused_as = told(error)
            else:
                idle.append(opened)
                await asyncio.wait_for(served.streams_ended.wait(), 30)
        assert refused_as == Told("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS", 1)
        assert {await ends(call) for call in idle} == {Told("RESOURCE_EXHAUSTED", "SLOW_READER", 1)}
        assert (await stream(b"", metadata=(("subject", "ann"),)).read()) == served.word
