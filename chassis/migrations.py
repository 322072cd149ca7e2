"""Plain SQL migrations: each file applied once, in order, under an advisory lock, and never changed afterwards."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

_LOCK_KEY = int.from_bytes(hashlib.sha256(b"ticketrush migrations").digest()[:8], "big", signed=True)


class MigrationChanged(Exception):
    """A migration file differs from what was applied under its name: restore it and write a new one instead."""


async def migrate(dsn: str, schema: str, folders: Sequence[Path], *, owner: str = "") -> list[str]:
    """Brings a schema up to date and returns the names of the files applied now, `folder/NNNN_name.sql`.

    What they make belongs to the role `owner` (by default, to whoever connects), who must own the schema. Folders are
    applied in the order given, files by name; all in one transaction: a failed file leaves nothing behind.
    Raises MigrationChanged, psycopg.Error.
    """
    async with await AsyncConnection.connect(dsn) as conn:
        await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        if owner:
            await conn.execute(SQL("SET LOCAL ROLE {}").format(Identifier(owner)))
        await conn.execute(SQL("SET LOCAL search_path TO {}").format(Identifier(schema)))
        await conn.execute(
            """CREATE TABLE IF NOT EXISTS migration (
                   name text PRIMARY KEY,
                   checksum bytea NOT NULL,
                   apply_time timestamptz NOT NULL DEFAULT clock_timestamp()
               )"""
        )
        cursor = await conn.execute("SELECT name, checksum FROM migration")
        applied: dict[str, bytes] = dict(await cursor.fetchall())
        return [file for folder in folders for file in await _apply_folder(conn, folder, applied)]


def names(folders: Sequence[Path]) -> list[str]:
    """Of the files that `migrate` applies, in order."""
    return [_name(file) for folder in folders for file in _files(folder)]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.sql"))


def _name(file: Path) -> str:
    return f"{file.parent.parent.name}/{file.name}"


async def _apply_folder(conn: AsyncConnection, folder: Path, applied: dict[str, bytes]) -> list[str]:
    new: list[str] = []
    for file in _files(folder):
        name = _name(file)
        text = file.read_bytes()
        checksum = hashlib.sha256(text).digest()
        if name not in applied:
            await conn.execute(text)
            await conn.execute("INSERT INTO migration (name, checksum) VALUES (%s, %s)", (name, checksum))
            new.append(name)
        elif applied[name] != checksum:
            raise MigrationChanged(f"{name} was changed after it had been applied; restore it and add a new file")
    return new
