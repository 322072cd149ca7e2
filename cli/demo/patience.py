"""Calls that are said again until they are answered, and waits that end: services may be killed while we play."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from google.protobuf.message import Message

from cli import failures
from cli.demo.narrator import Narrator

if TYPE_CHECKING:
    from grpc.aio import UnaryUnaryMultiCallable

CALL_TIMEOUT_S: Final = 3.0
"""Beyond what a call was told to wait. Soon over, so that a silence is noticed and told."""
WAIT_TIMEOUT_S: Final = 300.0
"""How long anything is waited for before the demo fails."""
RETRY_PAUSE_S: Final = 0.5
POLL_PAUSE_S: Final = 0.1

_NOT_ANSWERED: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,  # by a gateway that stops: we cancel nothing
)

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer")
Found = TypeVar("Found")


class SceneFailed(Exception):
    """A scene did not end as it should have."""


@asynccontextmanager
async def bounded(what: str) -> AsyncIterator[None]:
    """Ends the block with SceneFailed after WAIT_TIMEOUT_S."""
    try:
        async with asyncio.timeout(WAIT_TIMEOUT_S):
            yield
    except TimeoutError:
        raise SceneFailed(f"{what} took longer than {WAIT_TIMEOUT_S:.0f} s") from None


class Patience:
    """Says what it waits for, once per outage and not once per call."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._outages: dict[str, float] = {}

    async def call(
        self,
        method: "UnaryUnaryMultiCallable[Request, Answer]",
        request: Request,
        *,
        who: str = "gateway",
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Answer:
        """The answer to the request, the same request said again while nobody answers.

        Raises SceneFailed when it is refused, or not answered within WAIT_TIMEOUT_S.
        """
        deadline = time.monotonic() + WAIT_TIMEOUT_S
        outages: list[str] = []
        while True:
            try:
                answer = await method(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                failure = failures.understand(error)
                if failure.code not in _NOT_ANSWERED:
                    told = f"{failure.reason or failure.code.name} {failure.message}"
                    raise SceneFailed(f"{type(request).__name__} was refused: {told}") from None
                outages.append(self._outage_begins(who, request, failure))
            else:
                self._outages_end(outages)
                return answer
            if time.monotonic() > deadline:
                raise SceneFailed(f"{outages[-1]} for {WAIT_TIMEOUT_S:.0f} s")
            await asyncio.sleep(RETRY_PAUSE_S)

    async def until(
        self, scene: str, probe: Callable[[], Awaitable[Found | None]], *, what: str, soon_s: float
    ) -> Found:
        """Asks until there is something. After `soon_s` says what has not come: why, is not known here.

        Raises SceneFailed after WAIT_TIMEOUT_S.
        """
        begin = time.monotonic()
        outages: list[str] = []
        with self._narrator.waiting(scene, what):
            while (found := await probe()) is None:
                waited_s = time.monotonic() - begin
                if waited_s > WAIT_TIMEOUT_S:
                    raise SceneFailed(f"waited {WAIT_TIMEOUT_S:.0f} s for {what}")
                if waited_s > soon_s:
                    outages.append(self._tell_once(f"waiting for {what}", f" for {soon_s:g} s now"))
                await asyncio.sleep(POLL_PAUSE_S)
        self._outages_end(outages)
        return found

    def _outage_begins(self, who: str, request: Message, failure: failures.Failure) -> str:
        call = type(request).__name__.removesuffix("Request")
        if failure.reason:  # somebody answers, for somebody behind who does not
            return self._tell_once(f"{call} ended with {failure.reason}")
        if failure.code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return self._tell_once(f"{call} got no answer in time")
        return self._tell_once(f"{who} is not answering")

    def _tell_once(self, outage: str, since: str = "") -> str:
        if outage not in self._outages:
            self._outages[outage] = time.monotonic()
            advice = "`make status` shows what is dead, `make up` brings it back"
            self._narrator.say("waiting", f"{outage}{since}; {advice}", style="yellow")
        return outage

    def _outages_end(self, outages: Iterable[str]) -> None:
        for outage in outages:
            if begin := self._outages.pop(outage, 0.0):
                self._narrator.say("waiting", f"over after {time.monotonic() - begin:.1f} s ({outage})", style="green")
