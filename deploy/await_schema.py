"""Waits until a schema has every migration of this code: `python -m deploy.await_schema SCHEMA`, before its service.

With the settings of the service. A schema that is newer is no reason to wait: an old version is started again so.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

from chassis import logs, migrations, settings
from deploy.migrate import CONNECT_TIMEOUT_S, folders

INTERVAL_S: Final = 2.0
log = logging.getLogger(__name__)


class Settings(settings.Settings):
    """What a service that has a schema needs; of it only the database is asked."""

    database_url: settings.DatabaseUrl


async def await_schema(url: str, schema: str, say: Callable[[str], None], interval_s: float = INTERVAL_S) -> None:
    """Returns when all is applied; until then says what it waits for, whenever that changes."""
    told = ""
    while problem := await _problem(url, schema):
        if problem != told:
            say(told := problem)
        await asyncio.sleep(interval_s)


async def _problem(url: str, schema: str) -> str:
    """What there is to wait for; "" for nothing."""
    try:
        async with await AsyncConnection.connect(url, connect_timeout=CONNECT_TIMEOUT_S) as conn:
            found = await conn.execute(SQL("SELECT name FROM {}").format(Identifier(schema, "migration")))
            applied = {str(name) for (name,) in await found.fetchall()}
    except psycopg.Error as error:
        # Before the first migration there is no role to log in as, either.
        return f"schema {schema} cannot be looked at: {error}"
    missing = [name for name in migrations.names(folders(schema)) if name not in applied]
    return f"schema {schema} waits for: {', '.join(missing)}" if missing else ""


if __name__ == "__main__":
    _chosen = settings.load(Settings)
    logs.configure("await_schema", _chosen.log_level)
    asyncio.run(await_schema(_chosen.database_url, sys.argv[1], log.info))
