"""Between events as they are stored and protobuf: what the catalogue takes, shows and says."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from chassis import tracing
from chassis.outbox import Record
from chassis.timestamps import datetime_of, timestamp_of
from contract import ids, keys
from reservations.domain.model import EventState
from reservations.store.catalog import CatalogEvent, Terms
from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.v1 import catalog_pb2 as pb

HOLD_DURATION_DEFAULT: Final = timedelta(seconds=300)
PAYMENT_GRACE_DEFAULT: Final = timedelta(seconds=60)

_STATE = {state: pb.Event.State.Value(f"STATE_{state}") for state in EventState}


def terms_of(event: pb.Event) -> Terms:
    """The terms of a new event; what is unset gets its default. The message must have passed validation."""
    payment_grace = _span(event, "payment_grace", PAYMENT_GRACE_DEFAULT)
    return Terms(
        name=event.name,
        venue=event.venue,
        start_time=_time(event, "start_time"),
        hold_duration=_span(event, "hold_duration", HOLD_DURATION_DEFAULT),
        payment_grace=payment_grace,
        instalment_hold=_span(event, "instalment_hold", payment_grace),
        max_tickets_per_buyer=event.max_tickets_per_buyer,
        sale_start_time=_time(event, "sale_start_time"),
        sale_end_time=_time(event, "sale_end_time"),
    )


def changed_terms(terms: Terms, event: pb.Event, paths: Collection[str]) -> Terms:
    """The terms with the fields named by `paths` taken from the message; one that is unset there gets its default."""
    taken = pb.Event()
    FieldMask(paths=paths).MergeMessage(event, taken)
    given = terms_of(taken)
    changed = replace(terms, **{path: getattr(given, path) for path in paths})
    if "instalment_hold" in paths and not event.HasField("instalment_hold"):
        return replace(changed, instalment_hold=changed.payment_grace)
    return changed


def event_message(event: CatalogEvent) -> pb.Event:
    """An event as the public contract shows it."""
    terms = event.terms
    return pb.Event(
        event_id=str(event.event_id),
        name=terms.name,
        venue=terms.venue,
        start_time=_timestamp(terms.start_time),
        currency=event.currency,
        hold_duration=_duration(terms.hold_duration),
        payment_grace=_duration(terms.payment_grace),
        instalment_hold=_duration(terms.instalment_hold),
        max_tickets_per_buyer=terms.max_tickets_per_buyer,
        sale_start_time=_timestamp(terms.sale_start_time),
        sale_end_time=_timestamp(terms.sale_end_time),
        state=_STATE[event.state],
        available_count=event.available_count,
        held_count=event.held_count,
        sold_count=event.sold_count,
        create_time=_timestamp(event.create_time),
        version=event.version,
        organiser_id=event.organiser_id,
    )


def event_updated(event: CatalogEvent, kind: str, *, tickets_changed: bool) -> Record:
    """The history row of a change of an event, and the fact that tells it."""
    message_id = ids.derived_id(event.event_id, f"event.updated:{event.version}")
    envelope = msg.Envelope(
        message_id=str(message_id),
        occur_time=_timestamp(datetime.now(UTC)),
        subject_id=str(event.event_id),
        subject_version=event.version,
        traceparent=tracing.traceparent(),
        event_updated=msg.EventUpdated(event=event_message(event), tickets_changed=tickets_changed),
    )
    return Record(
        event.event_id,
        event.version,
        kind,
        keys.EVENT_UPDATED,
        message_id,
        envelope.SerializeToString(),
        ids.shard_bits(event.event_id),
    )


def _time(event: pb.Event, field: str) -> datetime | None:
    stamp: Timestamp = getattr(event, field)
    return datetime_of(stamp) if _is_set(event, field) else None


def _span(event: pb.Event, field: str, default: timedelta) -> timedelta:
    span: Duration = getattr(event, field)
    return span.ToTimedelta() if _is_set(event, field) else default


def _is_set(event: pb.Event, field: Any) -> bool:  # a name of the stubs' literals
    return event.HasField(field)


def _timestamp(time: datetime | None) -> Timestamp | None:
    return None if time is None else timestamp_of(time)


def _duration(span: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(span)
    return duration
