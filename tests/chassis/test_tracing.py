"""Traces cost nothing until somebody wants them; a share of them is taken; their receiver may be away."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Final

import grpc
import pytest

from chassis import logs, spans, tracing
from chassis.tracing import SWITCH
from deploy.services import SERVICES
from tests.e2e.office import eventually
from tests.observability.otlp import Receiver, receiving
from ticketrush.messages.v1 import messages_pb2 as pb

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
THEIRS: Final = f"00-{TRACE}-{PARENT}-01"
CALL: Final = "/tests.Traced/Call"
# A process that stops has that long for all of it.
STOPS_WITHIN_S: Final = 9.0
# Nobody listens there, and nobody will: it is the port of no protocol.
NOWHERE: Final = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def off_afterwards() -> Iterator[None]:
    yield
    SWITCH.spans = None


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    async with receiving() as found:
        yield found


def begun(url: str, ratio: float = 1.0, *, is_public: bool = False) -> spans.Spans:
    tracing.begin("tests", url, ratio, is_public=is_public)
    assert SWITCH.spans is not None
    return SWITCH.spans


async def call(own: spans.Spans, traceparent: str | bytes = "") -> str:
    """The context of a call with that header."""
    own.begin_call(CALL, [("traceparent", traceparent)] if traceparent else [], "a request")
    told = tracing.traceparent()
    own.end_call()
    return told


def test_no_service_imports_any_of_it_until_it_is_told_to() -> None:
    imports = "\n".join(f"import {service.name}.__main__" for service in SERVICES)
    script = f"import sys\n{imports}\nprint([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_while_nobody_traces_nothing_is_said_and_nothing_is_changed() -> None:
    envelope = pb.Envelope(subject_id="s", traceparent=THEIRS)
    with (
        tracing.handling("process", [envelope]),
        tracing.step("a step"),
        tracing.meeting("charge", [THEIRS]) as going_on,
    ):
        assert (tracing.about("s"), tracing.traceparent(), tracing.trace_id()) == ("", "", "")
        assert list(going_on) == [THEIRS]
    tracing.concerns(envelope, "another")
    tracing.arrived("outcome", envelope)
    assert tracing.interceptors() == []


async def test_a_call_goes_on_in_its_callers_trace(receiver: tuple[Receiver, str]) -> None:
    own = begun(receiver[1])
    told = await call(own, THEIRS)
    await tracing.end()
    [span] = receiver[0].spans
    assert (span.trace_id, span.sent.parent_span_id.hex()) == (TRACE, PARENT)
    assert told == f"00-{TRACE}-{span.sent.span_id.hex()}-01"
    assert span.attribute("ticketrush.request_id") == "a request"


@pytest.mark.parametrize(
    "garbage", ["", "x" * 55, f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", b"\xff\x00"]
)
async def test_what_is_no_context_begins_a_trace_of_its_own(
    receiver: tuple[Receiver, str], garbage: str | bytes
) -> None:
    own = begun(receiver[1])
    told = await call(own, garbage)
    await tracing.end()
    [span] = receiver[0].spans
    assert not span.sent.parent_span_id
    assert told.startswith(f"00-{span.trace_id}-")
    assert span.trace_id != TRACE


async def test_behind_a_public_port_a_caller_cannot_have_its_trace_taken(receiver: tuple[Receiver, str]) -> None:
    assert (await call(begun(receiver[1], 0.0, is_public=True), THEIRS)).endswith("-00")
    # Within, what the gateway has decided holds.
    assert (await call(begun(receiver[1], 0.0), THEIRS)).endswith("-01")
    await tracing.end()
    assert [span.trace_id for span in receiver[0].spans] == [TRACE]


async def test_a_trace_that_is_not_taken_is_taken_nowhere(receiver: tuple[Receiver, str]) -> None:
    own = begun(receiver[1])
    untaken = THEIRS.replace("-01", "-00")
    assert (await call(own, untaken)).endswith("-00")
    envelope = pb.Envelope(subject_id="s", traceparent=untaken)
    with tracing.handling("process", [envelope]), tracing.step("a step"):
        # So that what is said next is not taken either.
        assert tracing.about("s") == untaken
    await tracing.end()
    assert receiver[0].spans == []


async def test_about_a_share_of_all_traces_is_taken(receiver: tuple[Receiver, str]) -> None:
    own = begun(receiver[1], 0.25)
    taken = [(await call(own)).endswith("-01") for _ in range(2_000)]
    assert 0.15 < sum(taken) / len(taken) < 0.35


async def test_of_many_that_meet_each_goes_on_in_its_own_trace(receiver: tuple[Receiver, str]) -> None:
    begun(receiver[1])
    others = [f"00-{number:032x}-{PARENT}-01" for number in range(1, 4)]
    envelopes = [pb.Envelope(subject_id=text[3:35], traceparent=text) for text in (*others, "")]
    with tracing.handling("process", envelopes):
        for envelope in envelopes[:3]:
            assert tracing.about(envelope.subject_id)[:35] == envelope.traceparent[:35]
        assert tracing.about("") == ""
        tracing.concerns(envelopes[1], "its reservation")
        assert tracing.about("its reservation") == tracing.about(envelopes[1].subject_id)
        assert tracing.about("who is that?")[:35] == others[0][:35]
    await tracing.end()
    links = {span.trace_id: {link.trace_id.hex() for link in span.sent.links} for span in receiver[0].spans}
    first, *rest = (text[3:35] for text in others)
    assert links == {first: set(rest)} | {other: {first} for other in rest}


async def test_what_fails_says_so(receiver: tuple[Receiver, str]) -> None:
    own = begun(receiver[1])
    own.begin_call(CALL, [], "")
    own.fail_call(grpc.StatusCode.INTERNAL)
    own.end_call()
    own.begin_call(CALL, [], "")
    own.fail_call(grpc.StatusCode.NOT_FOUND)
    own.end_call()
    await tracing.end()
    codes = [(span.attribute("rpc.grpc.status_code"), span.sent.status.code) for span in receiver[0].spans]
    assert codes == [(13, 2), (5, 0)]


async def test_while_the_receiver_is_away_spans_are_dropped_and_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    own = begun(NOWHERE)
    with caplog.at_level(logging.CRITICAL, "opentelemetry"):
        for _ in range(2 * spans.QUEUE_SPANS_MAX):
            await call(own)
        async with asyncio.timeout(STOPS_WITHIN_S):
            await tracing.end()


async def test_a_log_line_has_the_ids_of_its_call(receiver: tuple[Receiver, str]) -> None:
    own = begun(receiver[1])
    logs.call_request_id.set("a request")
    own.begin_call(CALL, [("traceparent", THEIRS)], "a request")
    record = logging.makeLogRecord({"msg": "something"})
    logs._CallIds().filter(record)
    own.end_call()
    logs.call_request_id.set("")
    assert (record.__dict__["trace_id"], record.__dict__["request_id"]) == (TRACE, "a request")


async def test_spans_are_sent_by_themselves_soon(receiver: tuple[Receiver, str]) -> None:
    await call(begun(receiver[1]))

    async def has_come() -> bool:
        return bool(receiver[0].spans)

    await eventually(has_come)
    await tracing.end()


def test_a_log_line_about_an_envelope_has_the_ids_that_it_knows() -> None:
    known = pb.Envelope(traceparent=THEIRS, reserve_tickets=pb.ReserveTickets(request_id="a request"))
    assert logs.ids_of(known) == {"trace_id": TRACE, "request_id": "a request"}
    assert logs.ids_of(pb.Envelope(refund_completed=pb.RefundCompleted())) == {}
    assert logs.ids_of(pb.Envelope()) == {}
