"""Sends parked messages again to the queues they came from.

In this order, so that none is lost: begin (still PARKED), send, have it confirmed, then REDRIVEN with its audit entry.
A crash in between leaves it PARKED: sent again it is said twice, which is harmless. A message that fails again before
it is marked is parked as the same row, which ends the attempt: it stays PARKED. One that fails later is parked anew.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pamqp.common import FieldTable

from chassis.database import Database
from chassis.delivery import ROUTING_KEY_HEADER
from chassis.publisher import Publisher, PublishError
from ops import audit
from ops.audit import Doing
from ops.parked import store
from ops.parked.store import Attempt

BATCH_MAX: Final = 64
ACTION: Final = "parked redrive"


@dataclass
class Redriven:
    """What became of them, by id. `came_back` failed again at once; `unsent` with the reason why."""

    redriven: list[int] = field(default_factory=list)
    came_back: list[int] = field(default_factory=list)
    unsent: dict[int, str] = field(default_factory=dict)


async def redrive(database: Database, publisher: Publisher, parked_ids: Sequence[int], doing: Doing) -> Redriven:
    """Sends each of the messages that are PARKED once. Raises psycopg.Error; earlier batches are marked by then."""
    done = Redriven()
    for begin in range(0, len(parked_ids), BATCH_MAX):
        attempts = await _begin(database, parked_ids[begin : begin + BATCH_MAX])
        problems = await asyncio.gather(*(_send(publisher, attempt) for attempt in attempts))
        sent = [attempt for attempt, problem in zip(attempts, problems, strict=True) if not problem]
        marked = await _end(database, sent, doing)
        for attempt, problem in zip(attempts, problems, strict=True):
            if problem:
                done.unsent[attempt.parked_id] = problem
            else:
                (done.redriven if attempt.parked_id in marked else done.came_back).append(attempt.parked_id)
    return done


async def _begin(database: Database, parked_ids: Sequence[int]) -> list[Attempt]:
    async with database.transaction() as conn:
        return await store.begin_redrive(conn, parked_ids)


async def _send(publisher: Publisher, attempt: Attempt) -> str:
    """Why it was not sent; "" once it is confirmed."""
    # Straight to its queue, at the foot of the retry ladder.
    headers: FieldTable = {ROUTING_KEY_HEADER: attempt.routing_key}
    try:
        await publisher.republish("", attempt.queue, attempt.body, headers, content_type=attempt.content_type)
    except PublishError as error:
        return str(error)
    return ""


async def _end(database: Database, sent: Sequence[Attempt], doing: Doing) -> set[int]:
    if not sent:
        return set()
    async with database.transaction() as conn:
        marked = await store.end_redrive(conn, sent, doing.operator, doing.reason)
        await audit.record(conn, doing, [f"parked_message {parked_id}" for parked_id in sorted(marked)])
    return marked
