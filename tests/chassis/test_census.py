"""Numbers from the tables: shown as they are, and no longer shown when they are gone."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY, Gauge

from chassis import census
from chassis.census import PARKED, Census, Censuses
from chassis.database import Database
from chassis.parking import ParkedMessage, Parking
from tests.chassis.broker import running, until

INTERVAL_S = 0.05


@pytest.fixture
async def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    # On a busy machine a count takes long, and 49 times that is no time to wait for a test.
    monkeypatch.setattr(census, "REST_PER_LOOK", 0)
    database = Database(database_url, schema="payments", application="tests")
    await database.open()
    async with database.transaction() as conn:
        await conn.execute("CREATE TABLE thing (kind text NOT NULL)")
        await conn.execute("INSERT INTO thing VALUES ('a'), ('a'), ('b')")
    yield database
    await database.close()


def things(name: str) -> Census:
    return Census(Gauge(name, "Things.", ("kind",)), "SELECT kind, count(*) FROM thing GROUP BY kind ORDER BY kind")


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_a_number_follows_its_table_and_goes_with_its_rows(database: Database, unique: str) -> None:
    async with running(Censuses(database, [things(unique)], interval_s=INTERVAL_S).run()):
        await until(lambda: shown(unique, kind="b") == 1)
        assert shown(unique, kind="a") == 2
        async with database.transaction() as conn:
            await conn.execute("DELETE FROM thing WHERE kind = 'a'")
        await until(lambda: shown(unique, kind="a") is None)
        assert shown(unique, kind="b") == 1


async def test_a_count_that_fails_leaves_the_others_alone(database: Database, unique: str) -> None:
    lost = Census(Gauge(f"{unique}_lost", "Lost.", ("kind",)), "SELECT kind, count(*) FROM no_such_table")
    async with running(Censuses(database, [lost, things(unique)], interval_s=INTERVAL_S).run()):
        await until(lambda: shown(unique, kind="b") == 1)


async def test_there_are_never_more_series_than_the_limit(
    database: Database, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "SERIES_MAX", 1)
    async with running(Censuses(database, [things(unique)], interval_s=INTERVAL_S).run()):
        await until(lambda: shown(unique, kind="a") == 2)
    assert shown(unique, kind="b") is None


async def test_a_parked_message_is_shown_until_it_is_settled(database: Database) -> None:
    message = ParkedMessage("m", "payments.charges", "k", "", "", "", b"x", "MALFORMED", "", 1)
    await Parking(database).park([message])
    async with running(Censuses(database, [PARKED], interval_s=INTERVAL_S).run()):
        await until(lambda: shown("ticketrush_parked_messages", queue="payments.charges") == 1)
        async with database.transaction() as conn:
            await conn.execute(
                "UPDATE parked_message SET state = 'DISCARDED', settle_time = now(), settled_by = 'somebody'"
            )
        await until(lambda: shown("ticketrush_parked_messages", queue="payments.charges") is None)
