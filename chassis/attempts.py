"""How a batch is tried: patiently while the database is gone, again after bad luck, in parts after an error."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from prometheus_client import Counter

from chassis.database import is_database_down, is_transient
from ticketrush.messages.v1 import messages_pb2 as pb

log = logging.getLogger(__name__)

ATTEMPTS_MAX: Final = 3
ATTEMPT_PAUSE_S: Final = 0.1
DATABASE_PAUSE_FIRST_S: Final = 0.1
DATABASE_PAUSE_MAX_S: Final = 2.0
# Of a batch that failed. Halves would find a lone culprit in as many transactions, with half as many envelopes more.
PARTS: Final = 4

_repeats = Counter("ticketrush_amqp_transactions_repeated", "Transactions run again, by cause.", ("cause",))

T = TypeVar("T")


class Poison(Exception):
    """This envelope can never work: it is malformed. It is parked at once."""

    reason = "MALFORMED"


@dataclass(frozen=True, slots=True)
class Failure:
    """One envelope, of those handed in, that could not be decided; the others of its batch were."""

    envelope: pb.Envelope
    error: Exception


# One transaction for all envelopes, committed when it returns; if it raises, none of them had an effect.
Handler = Callable[[Sequence[pb.Envelope]], Awaitable[Sequence[Failure]]]


async def persist(call: Callable[[], Awaitable[T]], what: str) -> T:
    """Makes a call that uses the database until it succeeds or deserves to fail.

    Waits for a database that is gone, without end: nothing is wrong with the work. A transient error gets ATTEMPTS_MAX
    attempts. Raises what the last one raised.
    """
    attempt = 1
    pause_s = DATABASE_PAUSE_FIRST_S
    while True:
        try:
            return await call()
        except Exception as error:
            if is_database_down(error):
                _repeats.labels("database_down").inc()
                log.warning("%s: waiting for the database: %s", what, error)
                await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 # jitter
                pause_s = min(pause_s * 2, DATABASE_PAUSE_MAX_S)
            elif is_transient(error) and attempt < ATTEMPTS_MAX:
                _repeats.labels("transient").inc()
                await asyncio.sleep(random.uniform(0, ATTEMPT_PAUSE_S * 2**attempt))  # noqa: S311 # jitter
                attempt += 1
            else:
                raise


async def apply(handler: Handler, envelopes: Sequence[pb.Envelope], what: str) -> list[Failure]:
    """Hands all envelopes to the handler and returns those that failed; the others are done. Raises nothing of theirs.

    An error of the whole is looked for in ever smaller parts until its culprit stands alone; only bad luck that lasts
    (deadlocks, timeouts) is nobody's fault in particular, and fails them all.
    """
    found = await _apply(handler, envelopes, what)
    if isinstance(found, list):
        return found
    log.warning("%s: looking for those of %d that fail", what, len(envelopes), exc_info=found)
    return await _search(handler, envelopes, what)


async def _search(handler: Handler, envelopes: Sequence[pb.Envelope], what: str) -> list[Failure]:
    """What fails of envelopes that failed together."""
    failures: list[Failure] = []
    size = -(-len(envelopes) // PARTS)
    for begin in range(0, len(envelopes), size):
        part = envelopes[begin : begin + size]
        found = await _apply(handler, part, what)
        failures += found if isinstance(found, list) else await _search(handler, part, what)
    return failures


async def _apply(handler: Handler, envelopes: Sequence[pb.Envelope], what: str) -> list[Failure] | Exception:
    """The failures, or an error that some of several envelopes are to blame for."""
    try:
        return list(await persist(lambda: handler(envelopes), what))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is somebody's
        if is_transient(error) or len(envelopes) == 1:
            return [Failure(envelope, error) for envelope in envelopes]
        return error
