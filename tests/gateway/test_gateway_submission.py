"""Saying a command again, and giving up: on a publisher that fails as told."""

import asyncio

import grpc
import pytest

from chassis.errors import CallError
from chassis.publisher import NotSent, OutcomeUnknown, Overloaded, Publisher, PublishError, Rejected, Unroutable
from gateway import submission as submission_module
from gateway import waiters as waiters_module
from gateway.commands import Command, reserve
from gateway.submission import Submission
from gateway.waiters import Waiters
from tests.gateway import requests
from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.v1 import ticketing_pb2 as pb


class ScriptedPublisher(Publisher):
    """Ends publishes as scripted, in order; what is not scripted stays without confirm."""

    def __init__(self, *ends: PublishError | None) -> None:
        self._ends = list(ends)
        self.said: list[tuple[str, bytes]] = []
        self.confirms: list[asyncio.Future[None]] = []

    def publish(self, _routing_key: str, message_id: str, envelope: bytes, *, shard: int = 0) -> "asyncio.Future[None]":
        assert 0 <= shard < 2**16
        self.said.append((message_id, envelope))
        confirm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.confirms.append(confirm)
        if self._ends:
            end = self._ends.pop(0)
            if end is None:
                confirm.set_result(None)
            else:
                confirm.set_exception(end)
        return confirm


@pytest.fixture
def command() -> Command:
    return reserve(requests.reserve())


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


async def test_says_the_same_again_until_it_is_confirmed(command: Command, waiters: Waiters) -> None:
    publisher = ScriptedPublisher(OutcomeUnknown(), Unroutable(), NotSent(), None)
    assert await Submission(publisher, waiters).submit(command, wait_s=0, left_s=5) is None
    assert publisher.said == [(command.message_id, command.envelope.SerializeToString())] * 4


async def test_gives_up_when_the_time_is_over_and_says_that_the_outcome_is_unknown(
    command: Command, waiters: Waiters
) -> None:
    publisher = ScriptedPublisher()
    with pytest.raises(CallError) as refused:
        await Submission(publisher, waiters).submit(command, wait_s=30, left_s=0.05)
    assert refused.value.code is grpc.StatusCode.UNAVAILABLE
    assert refused.value.reason == "BROKER_UNAVAILABLE"
    assert "outcome is unknown" in refused.value.message
    assert "same request_id" in refused.value.message
    assert publisher.confirms[0].cancelled(), "what has not left must not be sent behind the caller's back"


async def test_gives_up_by_itself_when_the_call_has_no_end(
    command: Command, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission_module, "SAY_TIMEOUT_S", 0.05)
    with pytest.raises(CallError, match="BROKER_UNAVAILABLE"):
        await Submission(ScriptedPublisher(NotSent()), waiters).submit(command, wait_s=30, left_s=1_000)


@pytest.mark.parametrize("full", [Rejected(), Overloaded()])
async def test_no_room_is_told_at_once_with_a_time_to_come_back(
    command: Command, waiters: Waiters, full: PublishError
) -> None:
    publisher = ScriptedPublisher(full)
    with pytest.raises(CallError) as refused:
        await Submission(publisher, waiters).submit(command, wait_s=2, left_s=5)
    assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.retry_after_s
    assert len(publisher.said) == 1


@pytest.mark.parametrize("ends", [(), (OutcomeUnknown(),)])
async def test_an_outcome_is_as_good_as_a_confirm(
    command: Command, waiters: Waiters, ends: tuple[PublishError, ...]
) -> None:
    call = asyncio.ensure_future(Submission(ScriptedPublisher(*ends), waiters).submit(command, wait_s=9, left_s=9))
    await asyncio.sleep(0)
    outcome = messages.Outcome(reservation=pb.Reservation(version=1))
    waiters.take(messages.Envelope(command_id=command.message_id, outcome=outcome))
    assert await call == outcome


async def test_says_again_what_calls_wait_for_when_outcomes_may_have_been_missed(
    command: Command, waiters: Waiters
) -> None:
    publisher = ScriptedPublisher(None)
    submission = Submission(publisher, waiters)
    submission.answer_at("replies.1")
    call = asyncio.ensure_future(submission.submit(command, wait_s=0.05, left_s=9))
    await asyncio.sleep(0)
    submission.answer_at("replies.2")
    await call
    submission.answer_at("replies.3")
    said = [(message_id, messages.Envelope.FromString(envelope).reply_to) for message_id, envelope in publisher.said]
    assert said == [(command.message_id, "replies.1"), (command.message_id, "replies.2")]


async def test_a_caller_that_is_gone_leaves_no_trace(command: Command, waiters: Waiters) -> None:
    publisher = ScriptedPublisher()
    call = asyncio.ensure_future(Submission(publisher, waiters).submit(command, wait_s=9, left_s=9))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert publisher.confirms[0].cancelled()
    assert waiters._by_command == {}


async def test_one_call_too_many_is_refused_and_a_place_given_back_is_free(
    command: Command, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters_module, "WAITING_MAX", 1)
    submission = Submission(ScriptedPublisher(None, None), waiters)
    another = reserve(requests.reserve())
    waiting = waiters.add(another)
    with pytest.raises(CallError) as refused:
        await submission.submit(command, wait_s=0, left_s=5)
    assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.reason == "TOO_MANY_CALLS"
    assert refused.value.retry_after_s
    waiters.remove(another, waiting)
    assert await submission.submit(command, wait_s=0, left_s=5) is None


async def test_when_the_gateway_stops_confirmed_commands_are_pending_and_others_uncertain(
    command: Command, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters_module, "DRAIN_TIMEOUT_S", 0.01)
    confirmed = asyncio.ensure_future(Submission(ScriptedPublisher(None), waiters).submit(command, wait_s=9, left_s=9))
    uncertain = asyncio.ensure_future(Submission(ScriptedPublisher(), waiters).submit(command, wait_s=9, left_s=9))
    await asyncio.sleep(0)
    await waiters.drain()
    assert await confirmed is None
    with pytest.raises(CallError, match="BROKER_UNAVAILABLE"):
        await uncertain
