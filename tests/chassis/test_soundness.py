"""Rules looked at again and again: what breaks them is counted, what could not be looked at shows its age."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from chassis import soundness
from chassis.database import Database
from chassis.soundness import Check, Rounds, look
from tests.chassis.broker import running, until

INTERVAL_S = 0.05


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, schema="payments", application="tests")
    await database.open()
    async with database.transaction() as conn:
        await conn.execute("CREATE TABLE thing (name text PRIMARY KEY, broken boolean NOT NULL)")
    yield database
    await database.close()


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a look takes long, and 49 times that is no time to wait for a test."""

    async def rest(_: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(soundness, "_rest", rest)


async def put(database: Database, name: str, *, broken: bool) -> None:
    async with database.transaction() as conn:
        await conn.execute(
            "INSERT INTO thing VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET broken = EXCLUDED.broken",
            (name, broken),
        )


def things(rule: str) -> Check:
    """Nothing may be broken."""
    return Check(rule, "SELECT name FROM thing WHERE broken")


def violations(rule: str) -> float | None:
    return REGISTRY.get_sample_value("ticketrush_fsck_violations", {"invariant": rule})


def last_run(rule: str) -> float:
    return REGISTRY.get_sample_value("ticketrush_fsck_last_run_time_seconds", {"invariant": rule}) or 0.0


async def test_a_look_may_read_a_table_whole(database: Database) -> None:
    """What is forbidden to all other statements of a service: by its indexes, it would take for ever."""
    rule = "SOUNDNESS-TEST-SCANS"
    scans = "SELECT 'no' WHERE current_setting('enable_seqscan') <> 'on'"
    async with running(Rounds(database, [Check(rule, scans)], interval_s=INTERVAL_S).run()):
        await until(lambda: violations(rule) is not None)
    assert violations(rule) == 0


async def test_violations_are_counted_and_some_are_shown(database: Database) -> None:
    for name in "abc":
        await put(database, name, broken=True)
    await put(database, "d", broken=False)
    async with database.transaction() as conn:
        found = await look(conn, things("rule"), examples_max=2)
    assert found.count == 3
    assert len(set(found.examples) & {"a", "b", "c"}) == 2


async def test_the_number_follows_what_is_broken_and_what_is_mended(database: Database, unique: str) -> None:
    await put(database, "a", broken=True)
    # Two checks of one rule are one number.
    rounds = Rounds(database, [things(unique), things(unique)], interval_s=INTERVAL_S)
    began = time.time()
    async with running(rounds.run()):
        await until(lambda: violations(unique) == 2)
        assert last_run(unique) >= began
        await put(database, "a", broken=False)
        await until(lambda: violations(unique) == 0)


async def test_what_cannot_be_looked_at_grows_old_and_the_others_do_not(database: Database, unique: str) -> None:
    lost = Check(f"{unique}-lost", "SELECT name FROM no_such_table")
    rounds = Rounds(database, [lost, things(unique), things(f"{unique}-lost")], interval_s=INTERVAL_S)
    async with running(rounds.run()):
        await until(lambda: violations(unique) == 0)
        seen = last_run(unique)
        await until(lambda: last_run(unique) > seen)
    assert last_run(f"{unique}-lost") == 0
    assert violations(f"{unique}-lost") is None


async def test_looking_writes_nothing(database: Database, unique: str) -> None:
    await put(database, "a", broken=True)
    async with database.transaction() as conn:
        await conn.execute("CREATE SEQUENCE drawn")
    greedy = Check(unique, "SELECT name || nextval('drawn') FROM thing")
    async with running(Rounds(database, [greedy, things(f"{unique}-kept")], interval_s=INTERVAL_S).run()):
        await until(lambda: violations(f"{unique}-kept") == 1)
    assert violations(unique) is None
    async with database.transaction() as conn:
        cursor = await conn.execute("SELECT is_called FROM drawn")
        assert await cursor.fetchall() == [(False,)]


async def test_a_long_look_is_followed_by_a_longer_rest(
    database: Database, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []

    async def rest(delay_s: float) -> None:
        rests.append(delay_s)
        await asyncio.Event().wait()

    monkeypatch.setattr(soundness, "_rest", rest)
    slow = Check(unique, "SELECT name FROM thing, LATERAL (SELECT pg_sleep(0.1)) AS slow WHERE broken")
    await put(database, "a", broken=True)
    async with running(Rounds(database, [slow], interval_s=INTERVAL_S).run()):
        await until(lambda: bool(rests))
    assert rests[0] >= 0.1 * soundness.REST_PER_LOOK
