"""Parked messages for people and for programs. A card's token is never shown unless the bytes are asked for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from rich.table import Table
from rich.text import Text

from ops import terminal
from ops.parked.store import Parked
from ticketrush.messages.v1 import messages_pb2 as pb

MASKED: Final = "(not shown)"
Named = tuple[str, Parked]
"""The name of the schema, and the message."""


def name(schema: str, parked_id: int) -> str:
    """How a message is named on the command line."""
    return f"{schema}/{parked_id}"


def as_json(schema: str, parked: Parked) -> dict[str, Any]:
    """Plain values."""
    facts = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(parked).items()}
    return {"id": name(schema, parked.parked_id), "service": schema, **facts}


def envelopes(body: bytes) -> list[dict[str, Any]]:
    """What a message says; nothing for bytes that hold no envelopes."""
    try:
        batch = pb.EnvelopeBatch.FromString(body)
    except DecodeError:
        return []
    for envelope in batch.envelopes:
        if envelope.HasField("request_payment"):
            envelope.request_payment.payment_method = MASKED
    return [MessageToDict(envelope, preserving_proto_field_name=True) for envelope in batch.envelopes]


def print_list(found: Sequence[Named]) -> None:
    """A line each."""
    table = Table("id", "parked", "queue", "message", "subject", "because", "attempts", "state", box=None)
    for schema, parked in found:
        table.add_row(
            name(schema, parked.parked_id),
            f"{parked.park_time:%Y-%m-%d %H:%M:%S}",
            terminal.words(parked.queue),
            terminal.words(parked.kind or "?"),
            terminal.words(parked.subject_id or "?"),
            parked.reason,
            str(parked.attempts),
            parked.state,
        )
    terminal.console().print(table)


def print_whole(shown: Mapping[str, Any]) -> None:
    """A line per fact, then what it says."""
    table = Table.grid(padding=(0, 2))
    for key, value in shown.items():
        if key != "envelopes" and value not in (None, ""):
            table.add_row(Text(key.replace("_", " "), style="dim"), terminal.words(str(value)))
    console = terminal.console()
    console.print(table)
    for envelope in shown["envelopes"]:
        console.print_json(json.dumps(envelope), ensure_ascii=True)
