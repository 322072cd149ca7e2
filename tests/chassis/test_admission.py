"""More calls than can be served: who is let in, what the others are told, and that the rush leaves nothing behind."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from chassis import admission
from chassis.admission import (
    DELAY_TARGET_S,
    LATENCY_TARGET_S,
    LIMIT_FIRST,
    LIMIT_MAX,
    LIMIT_MIN,
    PROBE_INTERVAL_S,
    STANDING_S,
    Admission,
    Backlog,
    Limit,
)
from chassis.channels import dial
from chassis.errors import DETAILS_KEY
from chassis.server import Health, build

WORK, LOOK, PAY, STREAM = "/tests.Busy/Work", "/tests.Busy/Look", "/tests.Busy/Pay", "/tests.Busy/Stream"


@dataclass
class Busy:
    """Echoes what it is sent after doing its work."""

    work: Callable[[], object]
    taken_up: int = 0

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        server.add_registered_method_handlers(
            "tests.Busy",
            {
                "Work": grpc.unary_unary_rpc_method_handler(self._work),
                "Look": grpc.unary_unary_rpc_method_handler(self._work),
                "Pay": grpc.unary_unary_rpc_method_handler(self._work),
                "Stream": grpc.unary_stream_rpc_method_handler(self._stream),
            },
        )
        return ["tests.Busy"]

    async def _work(self, request: bytes, _: object) -> bytes:
        self.taken_up += 1
        done = self.work()
        if asyncio.isfuture(done):
            await done
        return request

    async def _stream(self, request: bytes, _: object) -> AsyncIterator[bytes]:
        yield request


@asynccontextmanager
async def serving(busy: Busy, admitted: Admission) -> AsyncIterator[grpc.aio.Channel]:
    server, _ = build(busy.register, Health({}), admitted)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    probing = asyncio.create_task(admitted.run(address))
    try:
        async with dial(address) as channel:
            yield channel
    finally:
        await server.stop(None)
        probing.cancel()


def method(channel: grpc.aio.Channel, name: str = WORK) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """A method, called with bytes as they are."""
    called: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(name)
    return called


def retry_after_s(error: grpc.aio.AioRpcError) -> float:
    """What a refusal says in its RetryInfo."""
    [details] = [value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY]
    assert isinstance(details, bytes)
    retry = RetryInfo()
    assert any(detail.Unpack(retry) for detail in Status.FromString(details).details)
    return float(retry.retry_delay.ToNanoseconds() / 1e9)


async def ended(call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> tuple[str, float]:
    """The code of a call, and when it is to be made again."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, retry_after_s(error)
    return "OK", 0.0


async def test_who_finds_no_room_is_refused_unread_and_let_in_once_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LIMIT_FIRST", 2)
    gate = asyncio.get_running_loop().create_future()
    busy = Busy(lambda: gate)
    async with serving(busy, Admission([WORK])) as channel:
        work = method(channel)
        inside = [asyncio.ensure_future(work(b"first")), asyncio.ensure_future(work(b"second"))]
        async with asyncio.timeout(10):
            while busy.taken_up < 2:  # noqa: ASYNC110 - a call has no event for it
                await asyncio.sleep(0.01)
        code, retry_s = await ended(work(b"third", timeout=10))
        assert (code, busy.taken_up) == ("RESOURCE_EXHAUSTED", 2)
        first, last = admission.RETRY_AFTER_S
        assert first <= retry_s <= last
        gate.set_result(None)
        assert await asyncio.gather(*inside) == [b"first", b"second"]
        assert await ended(work(b"fourth")) == ("OK", 0.0)


async def test_a_call_that_its_caller_gave_up_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LIMIT_FIRST", 1)
    never = asyncio.get_running_loop().create_future()
    busy = Busy(lambda: asyncio.shield(never))
    async with serving(busy, Admission([WORK])) as channel:
        work = method(channel)
        async with asyncio.timeout(10):
            while busy.taken_up < 3:
                with pytest.raises(grpc.aio.AioRpcError):  # too many, as long as the server has not heard of it
                    await work(b"", timeout=0.3)


async def test_a_crowd_that_would_wait_too_long_is_refused_at_once_and_the_next_are_served() -> None:
    # 2,000 times 2 ms in one instant: 4 s of work, far more than anybody should wait for.
    busy = Busy(lambda: time.sleep(0.002))
    async with serving(busy, Admission([])) as channel:
        work = method(channel)
        await work(b"")
        answers = Counter(code for code, _ in await asyncio.gather(*(ended(work(b"")) for _ in range(2_000))))
        assert set(answers) == {"OK", "RESOURCE_EXHAUSTED"}
        assert answers["OK"] == busy.taken_up - 1
        async with asyncio.timeout(10):
            while await ended(work(b"")) != ("OK", 0.0):  # noqa: ASYNC110 - as a caller would
                await asyncio.sleep(0.05)


async def test_streams_are_refused_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LIMIT_FIRST", 0)
    async with serving(Busy(lambda: None), Admission([STREAM])) as channel:
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(STREAM)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            _ = [answer async for answer in stream(b"")]
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert retry_after_s(refused.value) > 0


def seconds(count: float) -> int:
    """How often a backlog is told its delay in so long."""
    return round(count / PROBE_INTERVAL_S)


def test_a_share_is_refused_that_holds_twice_the_work_at_the_target() -> None:
    """A queue is fed two seconds of work a second, less what is refused; refusing costs a third of doing."""
    backlog, delay_s = Backlog(WORK), 0.0
    delays: list[float] = []
    for _ in range(seconds(30)):
        offered = 2 * PROBE_INTERVAL_S
        done = offered * (1 - backlog.refused_share) + offered * backlog.refused_share / 3
        delay_s = max(0.0, delay_s + done - PROBE_INTERVAL_S)
        backlog.learn(delay_s)
        delays.append(delay_s)
    assert max(delays) < 3 * DELAY_TARGET_S
    settled = delays[seconds(15) :]
    assert min(settled) > 0.8 * DELAY_TARGET_S
    assert max(settled) < 1.2 * DELAY_TARGET_S
    assert 0.7 < backlog.refused_share < 0.8  # 2 - 4/3 x = 1


def test_nobody_is_refused_once_the_rush_is_over() -> None:
    backlog = Backlog(WORK)
    for _ in range(seconds(10)):
        backlog.learn(1.0)
    assert backlog.refused_share == 1
    for _ in range(seconds(5)):
        backlog.learn(0.0)
    assert backlog.refused_share == 0


async def test_a_probe_that_was_slow_is_forgotten_when_nobody_comes() -> None:
    """Its result is one look at the queue, however often it is told."""
    backlog, address = Backlog(WORK), "127.0.0.1:1"
    async with dial(address) as channel:
        backlog.called()
        probing = asyncio.create_task(backlog.probe(channel))
        await asyncio.sleep(0)
        time.sleep(3 * DELAY_TARGET_S)  # noqa: ASYNC251 - the pause
        await probing
        for _ in range(seconds(2 * STANDING_S)):
            backlog.tick()
            assert backlog.refused_share == 0


def test_a_full_house_is_no_rush() -> None:
    """Callers who wait for answers make a queue as long as there are callers, and no longer."""
    backlog = Backlog(WORK)
    for delay_s in (0.0, 0.1, 0.2, 0.1, 0.24) * 20:
        for _ in range(seconds(2 * STANDING_S)):
            backlog.learn(delay_s)
            assert backlog.refused_share == 0


def test_a_pause_costs_nobody_a_place() -> None:
    backlog = Backlog(WORK)
    for delay_s in (0.0, *(0.5,) * seconds(STANDING_S - PROBE_INTERVAL_S), 0.0):
        backlog.learn(delay_s)
        assert backlog.refused_share == 0


def pressed(delay_s: float, *, looks: int, works: int, pays: int, slow: str) -> dict[str, float]:
    """What is refused of each method after a while of so many calls a look, when one's calls wait so long."""
    admitted = Admission([], ranks=[{LOOK}, {WORK}])
    gates = {name: admitted.gate(name) for name in (LOOK, WORK, PAY)}
    for turn in range(seconds(2)):
        for name, calls in ((LOOK, looks), (WORK, works), (PAY, pays)):
            for _ in range(calls):
                gates[name].backlog.called()
            gates[name].backlog.learn(delay_s * turn / seconds(2) if name == slow else 0.0)
        admitted.spread()
    return {name: gate.share for name, gate in gates.items()}


@pytest.mark.parametrize("delay_s", [0.3, 0.5, 0.7])
def test_the_lowest_rank_is_refused_first_and_none_above_those_who_wait(delay_s: float) -> None:
    alone = pressed(delay_s, looks=0, works=10, pays=0, slow=WORK)
    mixed = pressed(delay_s, looks=5, works=5, pays=5, slow=WORK)
    assert 0 < alone[WORK] < 1
    assert mixed[LOOK] == pytest.approx(min(2 * alone[WORK], 1), abs=0.01)
    assert mixed[WORK] == pytest.approx(max(2 * alone[WORK] - 1, 0), abs=0.01)
    assert mixed[PAY] == 0


def test_who_waits_behind_a_crowd_of_looks_costs_nobody_else_a_place() -> None:
    shares = pressed(2.0, looks=100, works=5, pays=5, slow=LOOK)
    assert shares == {LOOK: 1, WORK: 0, PAY: 0}


def test_the_highest_are_refused_when_they_are_too_many_themselves() -> None:
    shares = pressed(0.7, looks=2, works=2, pays=96, slow=PAY)
    assert shares[LOOK] == shares[WORK] == 1
    assert 0 < shares[PAY] < 1


def test_nobody_looks_while_those_who_buy_are_refused() -> None:
    shares = pressed(0.7, looks=1, works=50, pays=0, slow=WORK)
    assert 0 < shares[WORK] < shares[LOOK] == 1


async def test_what_finds_no_room_above_it_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of a lower rank take what those with the limit wait for."""
    monkeypatch.setattr(admission, "LIMIT_FIRST", 1)
    gate = asyncio.get_running_loop().create_future()
    busy = Busy(lambda: gate)
    async with serving(busy, Admission([WORK], ranks=[{STREAM}, {WORK}])) as channel:
        inside = asyncio.ensure_future(method(channel)(b"first"))
        async with asyncio.timeout(10):
            while busy.taken_up < 1:  # noqa: ASYNC110 - a call has no event for it
                await asyncio.sleep(0.01)
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(STREAM)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream(b"").read()
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.set_result(None)
        await inside
        assert await stream(b"").read() == b""


async def test_in_a_crowd_that_looks_and_reserves_those_who_pay_are_served() -> None:
    """4 s of work of each kind in one instant, and one call that matters more every 20 ms until the crowd is gone."""
    busy = Busy(lambda: time.sleep(0.002))
    async with serving(busy, Admission([], ranks=[{LOOK}, {WORK}])) as channel:
        looks, works, pay = (method(channel, name) for name in (LOOK, WORK, PAY))
        await asyncio.gather(looks(b""), works(b""), pay(b""))
        looking = [asyncio.ensure_future(ended(looks(b""))) for _ in range(2_000)]
        working = [asyncio.ensure_future(ended(works(b""))) for _ in range(2_000)]
        paid: Counter[str] = Counter()
        while not all(one.done() for one in (*looking, *working)):
            paid[(await ended(pay(b"")))[0]] += 1
            await asyncio.sleep(0.02)
        looked, worked = (Counter(one.result()[0] for one in many) for many in (looking, working))
    assert looked["RESOURCE_EXHAUSTED"] > 1_000
    assert looked["OK"] < worked["OK"]
    assert set(paid) == {"OK"}


def crowd(limit: Limit, seconds: float, now: float, calls: int) -> None:
    """As many calls at once, each answered after so long."""
    for _ in range(calls):
        limit.begin()
    for _ in range(calls):
        limit.end(seconds, now)


def test_the_limit_shrinks_once_for_those_who_were_slow_together() -> None:
    limit = Limit()
    crowd(limit, 2 * LATENCY_TARGET_S, 100.0, LIMIT_FIRST)
    assert LIMIT_FIRST / 2 < limit.calls < LIMIT_FIRST
    for turn in range(100):
        crowd(limit, 2 * LATENCY_TARGET_S, 200.0 + turn, round(limit.calls))
    assert limit.calls == LIMIT_MIN


def test_the_limit_shrinks_long_before_it_is_reached_when_many_are_slow() -> None:
    limit = Limit()
    for turn in range(10):
        crowd(limit, 2 * LATENCY_TARGET_S, 100.0 + turn, LIMIT_FIRST // 10)
    assert limit.calls < LIMIT_FIRST / 2


def test_the_limit_is_not_shrunk_by_the_few_that_are_always_slow() -> None:
    limit = Limit()
    for turn in range(100):
        crowd(limit, 0.01, float(turn), 95)
        crowd(limit, 2 * LATENCY_TARGET_S, float(turn), 5)
    assert limit.calls == LIMIT_FIRST


def test_the_limit_is_not_shrunk_by_slow_calls_that_are_few() -> None:
    limit = Limit()
    for turn in range(100):
        crowd(limit, 2 * LATENCY_TARGET_S, 10.0 * turn, 1)
    assert limit.calls == LIMIT_FIRST


def test_the_limit_grows_only_while_it_is_used() -> None:
    limit = Limit()
    for turn in range(1_000):
        crowd(limit, 0.01, float(turn), 10)
    assert limit.calls == LIMIT_FIRST
    crowd(limit, 0.01, 0.0, LIMIT_FIRST)
    assert LIMIT_FIRST < limit.calls < 1.2 * LIMIT_FIRST
    for turn in range(200):
        crowd(limit, 0.01, float(turn), round(limit.calls))
    assert limit.calls == LIMIT_MAX
