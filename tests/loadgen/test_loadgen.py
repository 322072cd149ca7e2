"""The load generator against a server of its own: what it calls, when, and what it tells."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.rpc.status_pb2 import Status

import loadgen
from chassis.errors import invalid, overloaded
from chassis.guard import Unguarded
from chassis.interceptor import CallInterceptor
from loadgen import Call, Load
from tests.chassis.certificates import Office

METHOD = "/tests.Echo/Say"
Answer = Callable[[bytes], Awaitable[bytes]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loadgen.build(tmp_path_factory.mktemp("loadgen") / "loadgen")


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[str]:
    async def say(request: bytes, _: object) -> bytes:
        return await answer(request)

    server = grpc.aio.server(interceptors=[CallInterceptor(Unguarded())])
    server.add_registered_method_handlers("tests.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)})
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


async def poured(program: Path, load: Load) -> list[Call]:
    return [call async for call in loadgen.poured(program, load)]


async def test_in_an_open_loop_calls_are_made_though_nobody_answers_and_are_timed_from_when_they_were_due(
    program: Path,
) -> None:
    came: list[bytes] = []
    all_are_there = asyncio.Event()

    async def answer(request: bytes) -> bytes:
        came.append(request)
        if len(came) == 40:
            all_are_there.set()
        await all_are_there.wait()
        return request * 2

    requests = [b"%d" % number for number in range(40)]
    async with served(answer) as address:
        load = Load(addresses=[address], methods=[METHOD], requests=requests, seconds=1, rate=40, timeout_s=30)
        calls = await poured(program, load)
    assert sorted(came) == sorted(requests)
    assert [call.body for call in calls] == [request * 2 for request in requests]
    assert {call.code for call in calls} == {"OK"}
    for earlier, later in itertools.pairwise(calls):
        assert later.due_s - earlier.due_s == pytest.approx(1 / 40, abs=1e-5)
    # The first one waited for the last.
    assert calls[0].end_s - calls[0].due_s >= calls[-1].due_s - calls[0].due_s


async def test_an_open_loop_ends_with_its_time(program: Path) -> None:
    async def answer(request: bytes) -> bytes:
        return request

    async with served(answer) as address:
        calls = await poured(
            program, Load(addresses=[address], methods=[METHOD], requests=[b""] * 100, seconds=0.2, rate=50)
        )
    assert len(calls) == 10


async def test_in_a_closed_loop_no_more_than_the_callers_wait_and_each_request_is_made_once(program: Path) -> None:
    waiting, most, came = 0, 0, list[bytes]()

    async def answer(request: bytes) -> bytes:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        came.append(request)
        await asyncio.sleep(0.01)
        waiting -= 1
        return b""

    requests = [b"%d" % number for number in range(50)]
    async with served(answer) as address:
        calls = await poured(
            program, Load(addresses=[address], methods=[METHOD], requests=requests, seconds=30, in_flight=5)
        )
    assert most == 5
    assert sorted(came) == sorted(requests)
    assert len(calls) == 50


async def test_what_a_refusal_says_is_told_and_a_caller_comes_back_when_it_may(program: Path) -> None:
    async def answer(request: bytes) -> bytes:
        match request:
            case b"too many":
                raise overloaded("OVERLOADED", "come back", 0.5)
            case b"wrong":
                raise invalid({"name": "must not be wrong"})
        return request

    async with served(answer) as address:
        load = Load(
            addresses=[address], methods=[METHOD], requests=[b"too many", b"wrong", b"right"], seconds=30, in_flight=1
        )
        busy, wrong, right = await poured(program, load)
    assert (busy.code, busy.retry_after_s) == ("RESOURCE_EXHAUSTED", 0.5)
    assert wrong.due_s - busy.end_s >= 0.25
    assert (wrong.code, wrong.retry_after_s) == ("INVALID_ARGUMENT", 0)
    assert Status.FromString(wrong.body).message == "name: must not be wrong"
    assert (right.code, right.body) == ("OK", b"right")


async def test_an_errand_is_made_in_order_and_ends_where_it_fails(program: Path) -> None:
    came: list[bytes] = []

    async def answer(request: bytes) -> bytes:
        came.append(request)
        if request == b"wrong":
            raise invalid({"name": "must not be wrong"})
        return b""

    requests = [b"first", b"second", b"wrong", b"never", b"third", b"fourth"]
    async with served(answer) as address:
        load = Load(addresses=[address], methods=[METHOD] * 2, requests=requests, seconds=30, in_flight=1)
        calls = await poured(program, load)
    assert came == [b"first", b"second", b"wrong", b"third", b"fourth"]
    assert [call.number for call in calls] == [0, 1, 2, 4, 5]


async def test_a_call_that_is_not_answered_in_time_is_told_as_that(program: Path) -> None:
    async def answer(_: bytes) -> bytes:
        await asyncio.sleep(30)
        return b""

    async with served(answer) as address:
        load = Load(addresses=[address], methods=[METHOD], requests=[b""], seconds=1, in_flight=1, timeout_s=0.2)
        [call] = await poured(program, load)
    assert call.code == "DEADLINE_EXCEEDED"


async def test_errands_bear_the_tokens_in_turn_and_nobody_sees_them_in_the_list_of_processes(program: Path) -> None:
    seen: list[object] = []
    arguments: list[bytes] = []

    async def say(request: bytes, context: grpc.aio.ServicerContext) -> bytes:  # type: ignore[type-arg]
        seen.append(dict(context.invocation_metadata() or ()).get("authorization"))
        arguments.extend(_arguments_of_children())
        return request

    server = grpc.aio.server()
    server.add_registered_method_handlers("tests.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)})
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        for tokens in (["secret", "hidden"], []):
            load = Load([address], [METHOD, METHOD], [b""] * 6, seconds=30, in_flight=1, tokens=tokens)
            assert [call.code for call in await poured(program, load)] == ["OK"] * 6
            assert "secret" not in repr(load)
    finally:
        await server.stop(None)
    assert seen == [*["Bearer secret"] * 2, *["Bearer hidden"] * 2, *["Bearer secret"] * 2, *[None] * 6]
    assert any(str(program).encode() in line for line in arguments)
    assert not any(b"secret" in line for line in arguments)


async def test_with_a_ca_only_a_server_of_that_name_and_ca_is_called(program: Path, tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.issue("gateway")
    cert, key, _ = office.files("gateway")
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
    trusted, other = office.authority.cert_pem, Office(tmp_path).authority.cert_pem

    async def say(request: bytes, _: object) -> bytes:
        return request

    server = grpc.aio.server()
    server.add_registered_method_handlers("tests.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)})
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()
    load = Load([address], [METHOD], [b""], seconds=30, in_flight=1, ca=trusted, server_name="gateway")
    others = (replace(load, server_name="provider"), replace(load, ca=other), replace(load, ca=""))
    try:
        assert [call.code for call in await poured(program, load)] == ["OK"]
        for wrong in others:
            assert [call.code for call in await poured(program, wrong)] == ["UNAVAILABLE"]
    finally:
        await server.stop(None)


def _arguments_of_children() -> list[bytes]:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
