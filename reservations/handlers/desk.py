"""The one way in which every use case changes the books."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from chassis.database import Database
from chassis.outbox import Outbox, Record
from reservations.domain.model import Books
from reservations.messages import records
from reservations.store.books import Connection
from reservations.store.changes import Superseded, save

log = logging.getLogger(__name__)

DECISION_ATTEMPTS = 5
"""How often a decision is taken again when somebody else changed what it had read."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Desk:
    """Where decisions are taken: the database they are written to and the outbox that tells them."""

    database: Database
    outbox: Outbox

    async def decide(self, decision: Callable[[Connection, Books], Awaitable[Result]]) -> Result:
        """Runs a decision in one transaction with the writing of its changes and messages; publishes after the commit.

        The decision locks what it needs into the books and changes them there. It may run more than once, each time on
        fresh books, so it must not touch anything else. Raises Superseded when somebody else was faster every time.
        """
        for attempt in range(1, DECISION_ATTEMPTS + 1):
            try:
                async with self.database.transaction() as conn:
                    books = Books()
                    result = await decision(conn, books)
                    await save(conn, books)
                    written = await self.outbox.write(conn, list(records(books.steps)))
            except Superseded as conflict:
                if attempt == DECISION_ATTEMPTS:
                    raise
                log.info("decided again: %s", conflict)
            else:
                self.outbox.publish(written)
                return result
        raise AssertionError("unreachable")

    async def say(self, said: Iterable[Record], conn: Connection) -> Callable[[], None]:
        """Writes messages that no step of the books tells; returns what publishes them after the commit."""
        written = await self.outbox.write(conn, list(said))
        return lambda: self.outbox.publish(written)
