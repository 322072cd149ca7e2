"""What reservations shows of itself: decisions by their outcome, and the tickets of the latest events on sale."""

from uuid import UUID

from prometheus_client import REGISTRY

from chassis.census import SERIES_MAX
from chassis.soundness import looking
from contract import reasons
from reservations.store.census import EVENTS_SHOWN_MAX, HOLDS, TICKETS
from tests.reservations.core import (
    Shop,
    shop,  # noqa: F401 - a fixture
)
from tests.reservations.sayings import reserve


def decided(outcome: str) -> float:
    return REGISTRY.get_sample_value("ticketrush_reservations_decided_total", {"outcome": outcome}) or 0


async def counted(shop: Shop) -> dict[tuple[UUID, str], int]:  # noqa: F811
    async with looking(shop.one.database) as conn:
        cursor = await conn.execute(TICKETS.sql.encode())
        return {(UUID(event_id), state): int(number) for event_id, state, number in await cursor.fetchall()}


async def test_each_decision_is_counted_once_by_its_outcome(shop: Shop) -> None:  # noqa: F811
    held, taken = decided("HELD"), decided(reasons.TICKETS_TAKEN)
    hall = await shop.event()
    first = reserve(hall, 0)
    await shop.ask(shop.one.reserve, first, reserve(hall, 0), reserve(hall, 1))
    # The same command again decides nothing.
    await shop.ask(shop.one.reserve, first)
    assert (decided("HELD"), decided(reasons.TICKETS_TAKEN)) == (held + 2, taken + 1)


async def test_the_tickets_of_events_on_sale_are_counted_by_state(shop: Shop) -> None:  # noqa: F811
    hall, closed = await shop.event(4), await shop.event(state="CLOSED")
    await shop.hold(reserve(hall, 0))
    await shop.sold(hall, 1, 2)
    found = await counted(shop)
    assert {state: found[hall.event_id, state] for state in ("AVAILABLE", "HELD", "SOLD")} == {
        "AVAILABLE": 1,
        "HELD": 1,
        "SOLD": 2,
    }
    assert closed.event_id not in {event_id for event_id, _ in found}


async def test_only_the_latest_events_are_counted(shop: Shop) -> None:  # noqa: F811
    oldest = await shop.event()
    latest = {(await shop.event()).event_id for _ in range(EVENTS_SHOWN_MAX)}
    assert {event_id for event_id, _ in await counted(shop)} == latest
    assert oldest.event_id not in latest
    assert 3 * EVENTS_SHOWN_MAX <= SERIES_MAX


async def test_what_is_held_is_counted_by_state_and_shown_when_it_is_nothing(shop: Shop) -> None:  # noqa: F811
    async def held() -> dict[str, int]:
        async with looking(shop.one.database) as conn:
            cursor = await conn.execute(HOLDS.sql.encode())
            return dict(await cursor.fetchall())

    before = await held()
    assert before["PARTIALLY_PAID"] == 0
    hall = await shop.event(4)
    await shop.hold(reserve(hall, 0))
    await shop.sold(hall, 1)
    assert await held() == {"HELD": before["HELD"] + 1, "PARTIALLY_PAID": 0}
