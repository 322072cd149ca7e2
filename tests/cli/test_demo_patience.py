"""The demo waits for services that are away, says so once, and ends its waits."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from rich.console import Console

from chassis import errors
from chassis.interceptor import Context
from chassis.server import Health, build
from cli.demo import patience
from cli.demo.narrator import Narrator
from cli.demo.patience import Patience, SceneFailed
from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

Answer = Callable[[pb.ReserveRequest], pb.ReserveResponse]
REQUEST = pb.ReserveRequest(request_id="r-1", buyer_id="ada")
DECIDED = pb.ReserveResponse(reservation=pb.Reservation(state=pb.Reservation.STATE_HELD))


class Desk:
    """A gateway that hears Reserve, and can be away."""

    def __init__(self) -> None:
        self.heard: list[pb.ReserveRequest] = []
        self.refusals: list[errors.CallError] = []
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def come(self) -> None:
        self._server, _ = build(self._register, Health({}))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def go(self) -> None:
        if self._server:
            await self._server.stop(None)
            self._server = None

    def _register(self, server: grpc.aio.Server) -> list[str]:
        method = grpc.unary_unary_rpc_method_handler(
            self._reserve,
            request_deserializer=pb.ReserveRequest.FromString,
            response_serializer=pb.ReserveResponse.SerializeToString,
        )
        service = "ticketrush.v1.TicketingService"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Reserve": method}),))
        return [service]

    async def _reserve(self, request: pb.ReserveRequest, _: Context) -> pb.ReserveResponse:
        self.heard.append(request)
        if self.refusals:
            raise self.refusals.pop(0)
        return DECIDED


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    await desk.come()
    yield desk
    await desk.go()


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def patient(printed: io.StringIO) -> Patience:
    return Patience(Narrator(Console(file=printed, width=200)))


def calling(patient: Patience, desk: Desk) -> "asyncio.Task[pb.ReserveResponse]":
    async def call() -> pb.ReserveResponse:
        options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{desk.port}", options=options) as channel:
            return await patient.call(TicketingServiceStub(channel).Reserve, REQUEST)

    return asyncio.create_task(call())


async def told(printed: io.StringIO, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in printed.getvalue():  # noqa: ASYNC110 - what is waited for is output
            await asyncio.sleep(0.01)


async def test_a_gateway_that_is_away_is_waited_for_and_told_once(
    patient: Patience, desk: Desk, printed: io.StringIO
) -> None:
    await desk.go()
    calls = [calling(patient, desk) for _ in range(3)]
    await told(printed, "gateway is not answering; `make status` shows what is dead, `make up` brings it back")
    await desk.come()
    assert await asyncio.gather(*calls) == [DECIDED] * 3
    assert printed.getvalue().count("is not answering; ") == 1
    assert printed.getvalue().count("over after") == 1


async def test_a_call_that_fails_behind_the_gateway_is_named_and_the_same_request_said_again(
    patient: Patience, desk: Desk, printed: io.StringIO
) -> None:
    desk.refusals = [errors.unavailable("BROKER_UNAVAILABLE", "the broker is away")]
    assert await calling(patient, desk) == DECIDED
    assert desk.heard == [REQUEST, REQUEST]
    assert "Reserve ended with BROKER_UNAVAILABLE; `make status` shows what is dead" in printed.getvalue()


async def test_a_call_without_an_answer_in_time_blames_nobody(
    patient: Patience, desk: Desk, printed: io.StringIO
) -> None:
    desk.refusals = [errors.CallError(grpc.StatusCode.DEADLINE_EXCEEDED, "", "Deadline Exceeded")]
    assert await calling(patient, desk) == DECIDED
    assert "Reserve got no answer in time; `make status` shows what is dead" in printed.getvalue()
    assert "gateway" not in printed.getvalue()


async def test_a_refusal_is_not_waited_out(patient: Patience, desk: Desk) -> None:
    desk.refusals = [errors.invalid({"buyer_id": "is empty"})]
    with pytest.raises(SceneFailed, match="ReserveRequest was refused: INVALID_ARGUMENT buyer_id: is empty"):
        await calling(patient, desk)


async def test_a_gateway_that_stays_away_ends_the_wait(
    patient: Patience, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "WAIT_TIMEOUT_S", 0.2)
    await desk.go()
    with pytest.raises(SceneFailed, match="gateway is not answering"):
        await calling(patient, desk)


def after(answers: int) -> Callable[[], Awaitable[str | None]]:
    left = answers

    async def probe() -> str | None:
        nonlocal left
        left -= 1
        return "there" if left < 0 else None

    return probe


async def test_what_takes_long_is_told_and_nobody_blamed(patient: Patience, printed: io.StringIO) -> None:
    found = await patient.until("expiry", after(2), what="the hold to end", soon_s=0)
    assert found == "there"
    assert "waiting for the hold to end for 0 s now; `make status` shows what is dead" in printed.getvalue()


async def test_what_comes_soon_is_not_talked_about(patient: Patience, printed: io.StringIO) -> None:
    assert await patient.until("expiry", after(2), what="the hold to end", soon_s=60) == "there"
    assert printed.getvalue() == ""


async def test_what_never_comes_ends_the_wait(patient: Patience, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WAIT_TIMEOUT_S", 0.2)
    with pytest.raises(SceneFailed, match="for the hold to end"):
        await patient.until("expiry", after(1_000_000), what="the hold to end", soon_s=60)
