"""The named points at which a process may end: around each commit, publish, confirm, ack, and call to another process.

Production code has no hooks: in the process that is to end, the named functions are wrapped before anything runs.
"""

import asyncio
import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple
from uuid import UUID

from aiormq.exceptions import AMQPError

from tests.proof import commits
from tests.proof.fuse import Fuse
from ticketrush.messages.v1 import messages_pb2 as messages

MESSAGING: Final = ("commit", "publish", "confirm")
CALLS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "reservations": (*MESSAGING, "ack"),
    "payments": (*MESSAGING, "ack", "open", "charge", "cancel-charge", "refund", "record"),
    "scheduler": (*MESSAGING, "reconcile"),
    "gateway": ("publish", "confirm", "outcome"),
}

RECONCILE_INTERVAL_S: Final = 0.5

Function = Callable[..., Any]
# What a call is about, told from its arguments: which of its kind (a routing key, a queue), and about whom.
Judge = Callable[..., tuple[str, Iterable[str | UUID]]]


class Place(NamedTuple):
    """A function, and whether the point lies before or behind it; a `plain` one is not awaited."""

    module: str
    function: str
    judge: Judge
    behind: bool = False
    plain: bool = False


def points_of(service: str) -> list[str]:
    """All points of a service."""
    return [f"{call}-{when}" for call in CALLS_OF[service] for when in ("before", "after")]


def install(service: str, point: str, fuse: Fuse) -> None:
    """From now on this process, which is to run the service, ends by the fuse when it passes the point."""
    if point.startswith("commit-"):
        commits.wrap(service, fuse, behind=point == "commit-after")
    elif point == "publish-after":
        _wrap("chassis.sender", "Sender.send", lambda send: _when_it_has_left(send, fuse))
    elif point.startswith("reconcile-"):
        # Often enough to find a charge under way that is overdue.
        jobs: Any = importlib.import_module("scheduler.jobs")
        jobs.RECONCILE_INTERVAL_S = RECONCILE_INTERVAL_S
        place = Place("", "", _asked, behind=point == "reconcile-after")
        _wrap("scheduler.jobs", "Jobs.start", lambda start: _asking(start, place, fuse))
    else:
        place = PLACES[point]
        _wrap(place.module, place.function, lambda function: _around(function, place, fuse))


def _wrap(module: str, path: str, make: Callable[[Function], Function]) -> None:
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    setattr(owner, name, make(getattr(owner, name)))


def _around(function: Function, place: Place, fuse: Fuse) -> Function:
    def wrapped_plain(*args: Any) -> None:
        if not place.behind:
            _blow(fuse, *place.judge(*args))
        function(*args)
        if place.behind:
            _blow(fuse, *place.judge(*args))

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not place.behind:
            _blow(fuse, *place.judge(*args))
        result = await function(*args, **kwargs)
        if place.behind:
            # Whoever waits for what it did has its turn first.
            await asyncio.sleep(0)
            _blow(fuse, *place.judge(*args))
        return result

    return wrapped_plain if place.plain else wrapped


def _asking(start: Function, place: Place, fuse: Fuse) -> Function:
    """The stub that a scheduler asks payments through is an attribute of each."""

    async def wrapped(jobs: Any) -> None:
        jobs._payments.ReconcilePayments = _around(jobs._payments.ReconcilePayments, place, fuse)
        await start(jobs)

    return wrapped


def _when_it_has_left(send: Function, fuse: Fuse) -> Function:
    """Between a message and its confirm: its bytes are gone, and nobody here knows where to."""

    async def wrapped(sender: Any, *args: Any, **kwargs: Any) -> Any:
        sending = asyncio.ensure_future(send(sender, *args, **kwargs))
        await asyncio.sleep(0)
        if sender._confirming is not None:
            # Its channel is locked until the message is handed to the system.
            with suppress(AMQPError):
                async with sender._confirming.lock:
                    _blow(fuse, *_message(sender, *args))
        return await sending

    return wrapped


def _blow(fuse: Fuse, detail: str, subjects: Iterable[str | UUID]) -> None:
    found = [UUID(str(subject)) for subject in subjects]
    if found:
        fuse.blow(detail, found)


def _message(_sender: Any, _exchange: str, routing_key: str, body: bytes, *_: Any) -> tuple[str, list[str]]:
    return routing_key, [one.subject_id for one in messages.EnvelopeBatch.FromString(body).envelopes]


def _told(_publisher: Any, lane: Any, batch: Any) -> tuple[str, list[str]]:
    return lane.key, [messages.Envelope.FromString(envelope).subject_id for _, envelope, _, _ in batch]


def _taken(intake: Any, batch: Any) -> tuple[str, list[str]]:
    return intake._name, [one.subject_id for delivery in batch for one in delivery.envelopes]


def _payment(_peers: Any, payment: Any, *_: Any) -> tuple[str, list[UUID]]:
    return "", [payment.payment_id]


def _payments(_peers: Any, payments: Any) -> tuple[str, list[UUID]]:
    return "", [payment.payment_id for payment in payments]


def _result(recorder: Any, result: Any) -> tuple[str, list[UUID]]:
    return recorder._name, [result[0].payment_id]


def _written(recorder: Any, batch: Any) -> tuple[str, list[UUID]]:
    return recorder._name, [result[0].payment_id for result, _ in batch]


def _outcome(_waiters: Any, envelope: Any) -> tuple[str, list[str]]:
    return "", [envelope.subject_id]


def _asked(request: Any) -> tuple[str, list[str]]:
    return "", list(request.payment_ids)


def _both(call: str, module: str, function: str, judge: Judge, *, plain: bool = False) -> dict[str, Place]:
    before = Place(module, function, judge, plain=plain)
    return {f"{call}-before": before, f"{call}-after": before._replace(behind=True)}


PLACES: Final[Mapping[str, Place]] = {
    "publish-before": Place("chassis.sender", "Sender.send", _message),
    # The confirm is here; before it is told to whoever waits, and behind that.
    "confirm-before": Place("chassis.sender", "Sender.send", _message, behind=True),
    "confirm-after": Place("chassis.publisher", "Publisher._send", _told, behind=True),
    **_both("ack", "chassis.intake", "Intake._ack", _taken),
    **_both("open", "payments.charger", "open_payments", _payments),
    **_both("charge", "payments.processor", "charge", _payment),
    **_both("cancel-charge", "payments.processor", "give_up", _payment),
    **_both("refund", "payments.processor", "refund", _payment),
    # Results are recorded together: behind it all of them are.
    "record-before": Place("payments.recorder", "Recorder.record", _result),
    "record-after": Place("payments.recorder", "Recorder._settle", _written, behind=True),
    **_both("outcome", "gateway.waiters", "Waiters.take", _outcome, plain=True),
}
