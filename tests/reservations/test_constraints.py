"""What the database refuses whoever asks: the invariants hold without the code."""

from uuid import uuid4

import pytest
from psycopg.errors import CheckViolation, ForeignKeyViolation, RestrictViolation, UniqueViolation

from tests.reservations.core import PRICE_MINOR, Shop
from tests.reservations.sayings import Hall, reserve


async def refused_by(shop: Shop, constraint: str, statement: str, *values: object) -> None:
    """The statement fails, and names the rule that it breaks."""
    with pytest.raises((CheckViolation, UniqueViolation, ForeignKeyViolation)) as caught:
        await shop.rows(statement, *values)
    assert caught.value.diag.constraint_name == constraint


async def a_hold(shop: Shop) -> tuple[Hall, str]:
    hall = await shop.event()
    return hall, await shop.hold(reserve(hall, 0))


async def test_a_ticket_has_at_most_one_live_reservation(shop: Shop) -> None:
    hall, _ = await a_hold(shop)
    other = await shop.hold(reserve(hall, 1))
    statement = "INSERT INTO reservation_ticket (reservation_id, ticket_id, live) VALUES (%s, %s, %s)"
    await refused_by(shop, "one_live_reservation_per_ticket", statement, other, hall.ticket_ids[0], True)
    await shop.rows(statement, other, hall.ticket_ids[0], False)


@pytest.mark.parametrize(
    "amounts",
    [
        {"paid_minor": PRICE_MINOR + 1},
        {"open_minor": PRICE_MINOR + 1},
        {"paid_minor": PRICE_MINOR, "open_minor": 1},
        {"paid_minor": -1},
        {"open_minor": -1},
    ],
    ids=str,
)
async def test_no_more_is_paid_or_being_charged_than_the_total(shop: Shop, amounts: dict[str, int]) -> None:
    _, hold = await a_hold(shop)
    changes = ", ".join(f"{column} = {amount}" for column, amount in amounts.items())
    statement = f"UPDATE reservation SET {changes} WHERE reservation_id = %s"  # noqa: S608 - constants
    await refused_by(shop, "never_paid_above_total", statement, hold)


@pytest.mark.parametrize("paid_minor", [0, PRICE_MINOR - 1])
async def test_what_is_not_wholly_paid_cannot_be_confirmed(shop: Shop, paid_minor: int) -> None:
    _, hold = await a_hold(shop)
    await refused_by(
        shop,
        "confirmed_means_paid",
        "UPDATE reservation SET state = 'CONFIRMED', paid_minor = %s WHERE reservation_id = %s",
        paid_minor,
        hold,
    )


@pytest.mark.parametrize("state", ["EXPIRED", "CANCELLED", "REJECTED"])
async def test_what_holds_no_tickets_keeps_no_money(shop: Shop, state: str) -> None:
    _, hold = await a_hold(shop)
    await refused_by(
        shop,
        "only_held_tickets_are_paid",
        "UPDATE reservation SET state = %s, paid_minor = 1 WHERE reservation_id = %s",
        state,
        hold,
    )


async def test_a_request_has_one_reservation(shop: Shop) -> None:
    _, hold = await a_hold(shop)
    columns = "event_id, buyer_id, request_id, command_id, state, reject_reason, currency, total_minor, create_time,"
    columns += " expire_time, release_time, payment_grace, instalment_hold, version"
    await refused_by(
        shop,
        "one_reservation_per_request",
        f"""INSERT INTO reservation (reservation_id, {columns})
            SELECT %s, {columns} FROM reservation WHERE reservation_id = %s""",  # noqa: S608 - constants
        uuid4(),
        hold,
    )


@pytest.mark.parametrize("amount_minor", [0, -1])
async def test_a_credit_is_of_some_money_and_of_a_reservation(shop: Shop, amount_minor: int) -> None:
    _, hold = await a_hold(shop)
    statement = "INSERT INTO credit VALUES (%s, %s, %s, 'OPEN', now(), now(), 0)"
    await refused_by(shop, "credit_is_positive", statement, uuid4(), hold, amount_minor)
    await refused_by(shop, "credit_reservation_id_fkey", statement, uuid4(), uuid4(), 1)


async def test_nobody_has_fewer_than_no_tickets(shop: Shop) -> None:
    hall, _ = await a_hold(shop)
    statement = "UPDATE allowance SET ticket_count = -1 WHERE event_id = %s"
    await refused_by(shop, "allowance_is_not_negative", statement, hall.event_id)


@pytest.mark.parametrize("statement", ["UPDATE history SET kind = kind", "DELETE FROM history", "TRUNCATE history"])
async def test_history_is_not_rewritten(shop: Shop, statement: str) -> None:
    with pytest.raises(RestrictViolation, match="append-only"):
        await shop.rows(statement)


@pytest.mark.parametrize(
    ("table", "constraint"),
    [("event", "event_state"), ("ticket", "ticket_state"), ("reservation", "reservation_state")],
)
async def test_there_are_no_other_states(shop: Shop, table: str, constraint: str) -> None:
    hall, _ = await a_hold(shop)
    await refused_by(shop, constraint, f"UPDATE {table} SET state = 'LOST' WHERE event_id = %s", hall.event_id)  # noqa: S608 - constants
