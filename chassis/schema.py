"""Whether the database's schema is one that this code can work on; a process on any other says so and stops.

Migrations expand: what an older version uses stays, so a schema that is a release newer is as good as one's own, and
an old version can be started again. One that takes something away is called `NNNN_contract_of_MMMM_words.sql`: code
that does not know migration MMMM, with which its own use of it ended, cannot work any more.
"""

import asyncio
import logging
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from chassis import migrations
from chassis.database import Database

log = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 3.0
# Until the database has answered once, and from then on.
SOON_S: Final = 0.5
LATER_S: Final = 30.0
_COMMON: Final = Path(__file__).parent / "migrations"
_CONTRACT: Final = re.compile(r"(?P<folder>.+)/\d+_contract_of_(?P<end_of_use>\d+)_")
_NO_ANSWER: Final = (psycopg.Error, PoolTimeout, TooManyRequests, TimeoutError)


class UnfitSchema(Exception):
    """This code cannot work on this schema: the message says why, and what to do."""


class Schema:
    """The schema of one database, and the migrations in this code: the chassis's and those in `folder`."""

    def __init__(self, database: Database, name: str, folder: Path) -> None:
        self._database = database
        self._name = name
        self._known = migrations.names([_COMMON, folder])
        self._was_looked_at = False

    async def at_start(self) -> None:
        """To be awaited before anything is taken up. Raises UnfitSchema.

        A database that does not answer soon is looked at later: it is waited for, NOT_SERVING, as at any other time.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self.look()
        except _NO_ANSWER as error:
            log.warning("schema %s is looked at once the database answers (%s)", self._name, type(error).__name__)

    async def run(self) -> None:
        """Looks again and again until cancelled. Raises UnfitSchema."""
        while True:
            await asyncio.sleep(LATER_S if self._was_looked_at else SOON_S)
            try:
                await self.look()
            except _NO_ANSWER as error:
                log.debug("schema %s: %s", self._name, error)

    async def look(self) -> None:
        """Raises UnfitSchema, and what a database that does not answer raises."""
        async with self._database.transaction() as conn:
            # A schema that nobody has made has no such table.
            found = await (await conn.execute("SELECT to_regclass('migration') IS NOT NULL")).fetchone()
            rows = await (await conn.execute("SELECT name FROM migration")).fetchall() if found == (True,) else []
        self._was_looked_at = True
        if problem := unfit(self._name, self._known, {str(name) for (name,) in rows}):
            raise UnfitSchema(problem)


def unfit(schema: str, known: Sequence[str], applied: Collection[str]) -> str:
    """Why code that knows these migrations cannot work where those are applied; "" if it can."""
    missing = [name for name in known if name not in applied]
    if missing:
        return f"schema {schema} is older than this code: run `python -m deploy migrate` first ({', '.join(missing)})"
    ended = {tuple(name.split("_", 1)[0].rsplit("/", 1)) for name in known}
    contracts = [(name, _CONTRACT.match(name)) for name in sorted(set(applied) - set(known))]
    gone = [name for name, found in contracts if found and (found["folder"], found["end_of_use"]) not in ended]
    if gone:
        names = ", ".join(gone)
        return f"schema {schema} is newer than this code, and lacks what it uses ({names}): start a newer version"
    return ""
