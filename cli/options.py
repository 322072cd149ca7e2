"""Options that several commands share, and the spans (`90`, `90s`, `5m`, `2h`) and times that people type."""

import re
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID, uuid4

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from cli import addresses
from cli.completion import event_ids

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNIT_S: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
SPAN_MAX_S: Final = 36_500 * 86_400
"""A century: more than anybody means, and a Duration or a database still count with it."""
WAIT_MAX_S: Final = 30
"""What the gateway waits at most."""

NONE: Final = "none"
NO_TIME: Final = Timestamp()
"""What a time is that was typed as `none`: taken away."""


def span(text: str) -> Duration:
    """The span that a person typed; a bare number is seconds. Raises typer.BadParameter."""
    found = _SPAN.fullmatch(text.strip())
    if not found:
        raise typer.BadParameter(f"{text!r} is not a span; write 90, 90s, 5m, 2h or 1d")
    span_s = float(found[1]) * _UNIT_S[found[2] or "s"]
    if span_s > SPAN_MAX_S:
        raise typer.BadParameter(f"{text!r} is more than a century")
    duration = Duration()
    duration.FromNanoseconds(round(span_s * 1_000_000_000))
    return duration


def wait_span(text: str) -> Duration:
    """A span that the gateway may be told to wait. Raises typer.BadParameter."""
    duration = span(text)
    if duration.ToNanoseconds() > WAIT_MAX_S * 1_000_000_000:
        raise typer.BadParameter(f"wait must be 0 to {WAIT_MAX_S} s, not {text!r}")
    return duration


def instant(text: str) -> Timestamp:
    """The time that a person typed; local when it names no zone. Raises typer.BadParameter."""
    timestamp = Timestamp()
    try:
        timestamp.FromDatetime(datetime.fromisoformat(text.strip()).astimezone())
    except (ValueError, OverflowError):  # no time, or before the year 1 or after 9999 in UTC
        raise typer.BadParameter(
            f"{text!r} is not a time; write 2026-12-31, '2026-12-31 20:00' or 2026-12-31T20:00+01:00"
        ) from None
    return timestamp


def instant_or_none(text: str) -> Timestamp:
    """The time that a person typed, or NO_TIME for `none`. Raises typer.BadParameter."""
    return NO_TIME if text.strip() == NONE else instant(text)


def uuid(text: str) -> str:
    """The UUID in its one spelling. Raises typer.BadParameter."""
    try:
        return str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a UUID") from None


Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        parser=addresses.host_and_port,
        default_factory=addresses.gateway_address,
        show_default="$TICKETRUSH_GATEWAY_ADDRESS, else the local stack's, else 127.0.0.1:50051",
        help="Where the gateway listens.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
RequestId = Annotated[
    str,
    typer.Option(
        "--request-id",
        metavar="UUID",
        parser=uuid,
        default_factory=lambda: str(uuid4()),
        show_default="a fresh one",
        help="Names this one intention. Give the id of an earlier try to say it again without doing it twice.",
    ),
]
Wait = Annotated[
    Duration | None,
    typer.Option(
        "--wait",
        metavar="SPAN",
        parser=wait_span,
        show_default="2s",
        help=f"How long to wait for the outcome, at most {WAIT_MAX_S}s. Not decided by then: exit code 3, ask again.",
    ),
]
Buyer = Annotated[str, typer.Option("--buyer", metavar="ID", help="Who buys, for example ada@example.com.")]
EventId = Annotated[
    str, typer.Argument(metavar="EVENT_ID", parser=uuid, autocompletion=event_ids, help="Id of the event.")
]
ReservationId = Annotated[str, typer.Argument(metavar="RESERVATION_ID", parser=uuid, help="Id of the reservation.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record; at most 200 characters.")]
