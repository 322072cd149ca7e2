"""Options that several commands share, and the spans that people type (`90`, `90s`, `5m`, `2h`)."""

import re
from typing import Annotated, Final
from uuid import UUID, uuid4

import typer
from google.protobuf.duration_pb2 import Duration

from cli import addresses

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNIT_S: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def span(text: str) -> Duration:
    """The span that a person typed; a bare number is seconds. Raises typer.BadParameter."""
    found = _SPAN.fullmatch(text.strip())
    if not found:
        raise typer.BadParameter(f"{text!r} is not a span; write 90, 90s, 5m, 2h or 1d")
    duration = Duration()
    duration.FromNanoseconds(round(float(found[1]) * _UNIT_S[found[2] or "s"] * 1_000_000_000))
    return duration


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
        parser=span,
        show_default="2s",
        help="How long to wait for the outcome, at most 30s. Not decided by then: exit code 3, ask again.",
    ),
]
Buyer = Annotated[str, typer.Option("--buyer", metavar="ID", help="Who buys, for example ada@example.com.")]
EventId = Annotated[str, typer.Argument(metavar="EVENT_ID", parser=uuid, help="Id of the event.")]
ReservationId = Annotated[str, typer.Argument(metavar="RESERVATION_ID", parser=uuid, help="Id of the reservation.")]
