"""A process works only on a schema that its code can work on; until it knows, and otherwise, it says so."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from chassis.database import Database
from chassis.schema import Schema, UnfitSchema, unfit

KNOWN = ["chassis/0001_messages.sql", "payments/0001_payments.sql", "payments/0002_by_hand.sql"]
NEW = "payments/0003_new.sql"


@pytest.mark.parametrize(
    ("applied", "problem"),
    [
        ({*KNOWN}, ""),
        # A release newer, which has only added: the old version can be started again.
        ({*KNOWN, NEW}, ""),
        # What was taken away is what we have stopped using ourselves.
        ({*KNOWN, NEW, "payments/0004_contract_of_0002_notes.sql"}, ""),
        ({*KNOWN, NEW, "payments/0004_contract_of_0003_notes.sql"}, "newer than this code"),
        # Numbers are each folder's own.
        ({*KNOWN, "chassis/0009_contract_of_0002_notes.sql"}, "newer than this code"),
        (set(), "older than this code"),
        ({*KNOWN[:2]}, "payments/0002_by_hand.sql"),
        ({*KNOWN[:2], "payments/0004_contract_of_0003_notes.sql"}, "older than this code"),
    ],
)
def test_a_schema_fits_when_nothing_is_missing_that_the_code_uses(applied: set[str], problem: str) -> None:
    told = unfit("payments", KNOWN, applied)
    assert problem in told
    assert bool(told) == bool(problem)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What this code knows beside the chassis's: nothing."""
    return tmp_path / "payments" / "migrations"


async def test_a_schema_that_nobody_has_made_is_older(database_url: str, folder: Path) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA nobodys")
    database = Database(database_url, schema="nobodys", application="test")
    await database.open()
    try:
        with pytest.raises(UnfitSchema, match="older than this code: run `python -m deploy migrate`"):
            await Schema(database, "nobodys", folder).at_start()
    finally:
        await database.close()


async def test_what_is_taken_away_while_it_works_ends_it(
    database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.schema.LATER_S", 0.01)
    database = Database(database_url, schema="payments", application="test")
    await database.open()
    try:
        schema = Schema(database, "payments", folder)
        await schema.at_start()
        working = asyncio.create_task(schema.run())
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute("INSERT INTO payments.migration VALUES ('payments/0099_contract_of_0098_x.sql', '')")
        async with asyncio.timeout(20):
            with pytest.raises(UnfitSchema, match="newer than this code"):
                await working
    finally:
        await database.close()


async def test_a_database_that_does_not_answer_is_no_reason_to_stop(folder: Path) -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none", schema="payments", application="test")
    await database.open()
    try:
        schema = Schema(database, "payments", folder)
        await schema.at_start()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await schema.run()
    finally:
        await database.close()
