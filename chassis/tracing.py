"""Traces, for whoever wants to see them.

Until `begin` nothing of OpenTelemetry is imported, and each place here costs one question. A trace context is a text,
W3C's `traceparent`: it travels in gRPC's metadata, in envelopes, and with them in history. One that is empty, or says
that its trace is not taken, causes no work.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ticketrush.messages.v1 import messages_pb2 as pb

if TYPE_CHECKING:
    from chassis.spans import Spans

# Of a traceparent.
TRACE_ID: Final = slice(3, 35)
_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


@dataclass
class Switch:
    """`spans` is None while nobody traces."""

    spans: "Spans | None" = None


SWITCH: Final = Switch()


def begin(service: str, endpoint: str, ratio: float, *, is_public: bool) -> None:
    """From now on this share of all traces is sent to the OTLP receiver; see `chassis.spans.Spans`."""
    # What takes a tenth of a second and some MB is imported by those alone who want it.
    from chassis.spans import Spans  # noqa: PLC0415

    SWITCH.spans = Spans(service, endpoint, ratio, is_public=is_public)


async def end() -> None:
    """Sends what has not been sent; at the end of the process."""
    if SWITCH.spans is not None:
        await asyncio.to_thread(SWITCH.spans.close)


def traceparent() -> str:
    """Of what is being done now; empty without."""
    return "" if SWITCH.spans is None else SWITCH.spans.current()


def trace_id() -> str:
    """Of what is being done now, 32 hexadecimal digits; empty without."""
    return traceparent()[TRACE_ID]


def step(name: str) -> AbstractContextManager[None]:
    """A part of what is being done now; nothing where no trace is taken."""
    return _NOTHING if SWITCH.spans is None else SWITCH.spans.step(name)


def meeting(name: str, traceparents: Sequence[str]) -> AbstractContextManager[Sequence[str]]:
    """What is done at once for many, each of its own trace: one span in each, linked with one another.

    Gives the contexts under which their effects go on, in the same order.
    """
    return nullcontext(traceparents) if SWITCH.spans is None else SWITCH.spans.meeting(name, traceparents)


def handling(name: str, envelopes: Sequence[pb.Envelope]) -> AbstractContextManager[None]:
    """The same for envelopes; meanwhile `about` knows their subjects."""
    return _NOTHING if SWITCH.spans is None else SWITCH.spans.handling(name, envelopes)


def about(subject_id: str) -> str:
    """The context under which goes on what concerns this subject of `handling`; else of what is being done now."""
    return "" if SWITCH.spans is None else SWITCH.spans.about(subject_id)


def concerns(envelope: pb.Envelope, subject_id: str) -> None:
    """Tells `about` of another subject of an envelope in hand."""
    if SWITCH.spans is not None:
        SWITCH.spans.concerns(envelope, subject_id)


def arrived(name: str, envelope: pb.Envelope) -> None:
    """An envelope has come to where its trace ends."""
    if SWITCH.spans is not None:
        SWITCH.spans.arrived(name, envelope)


def interceptors() -> list[Any]:
    """For channels: their unary calls are spans, and take the context along."""
    return [] if SWITCH.spans is None else SWITCH.spans.interceptors
