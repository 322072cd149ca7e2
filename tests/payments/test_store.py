"""The database itself holds what must always be true of payments and their money."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from payments import domain, store
from payments.domain import Charged, Payment, PaymentRequest, PaymentState
from payments.ledger import Entry, postings
from tests.payments.system import System

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def new_payment() -> Payment:
    return domain.begin(
        PaymentRequest(uuid4(), uuid4(), "anna", uuid4(), 0, "pm_card_ok", reply_to="", command_id=""), NOW
    )


@pytest.fixture
async def pending(system: System) -> Payment:
    payment = new_payment()
    async with system.database.transaction() as conn:
        await store.insert(conn, [payment], 0)
    return payment


@pytest.fixture
async def approved(system: System, pending: Payment) -> Payment:
    payment = domain.settle_charge(pending, pending, Charged(5_000, "EUR"), NOW)
    assert payment is not None
    async with system.database.transaction() as conn:
        await store.save(conn, [payment])
        await store.insert_entries(conn, postings(payment))
    return payment


async def test_a_payment_reads_as_it_was_begun(system: System, pending: Payment) -> None:
    async with system.database.transaction() as conn:
        assert await store.lock(conn, [pending.payment_id, uuid4()]) == {pending.payment_id: pending}
        assert await store.find(conn, [pending.payment_id]) == [pending]


async def test_a_write_on_an_outdated_version_is_refused(system: System, approved: Payment) -> None:
    outdated = replace(approved, decline_reason="")
    with pytest.raises(store.StaleVersion):
        async with system.database.transaction() as conn:
            await store.save(conn, [outdated])


async def test_a_failed_attempt_of_an_outdated_version_postpones_nothing(
    system: System, pending: Payment, approved: Payment
) -> None:
    before = await system.payment(str(approved.payment_id))
    async with system.database.transaction() as conn:
        await store.postpone(conn, [(replace(pending, attempts=7), 60.0)])
    assert await system.payment(str(approved.payment_id)) == before


@pytest.mark.parametrize(
    ("constraint", "change"),
    [
        ("card_token_is_kept_only_while_pending", "payment_method = 'pm_card_ok'"),
        ("unfinished_payment_has_a_due_time", "due_time = now()"),
        ("rejected_payment_has_a_reason", "decline_reason = 'CARD_DECLINED'"),
        ("opened_or_charged_payment_has_amount_and_currency", "amount_minor = 0"),
        ("opened_or_charged_payment_has_amount_and_currency", "currency = ''"),
        ("payment_amount_is_never_negative", "asked_minor = -1"),
        ("payment_version_is_positive", "version = 0"),
        ("payment_moves_only_forward", "state = 'PENDING', payment_method = 'pm_card_ok', due_time = now()"),
        ("payment_moves_only_forward", "state = 'REFUNDED'"),
    ],
)
async def test_an_approved_payment_cannot_be_made_untrue(
    system: System, approved: Payment, constraint: str, change: str
) -> None:
    with pytest.raises((errors.CheckViolation, errors.RestrictViolation)) as caught:
        await system.rows(f"UPDATE payment SET {change} WHERE payment_id = %s", approved.payment_id)  # noqa: S608
    assert caught.value.diag.constraint_name == constraint


@pytest.mark.parametrize(
    ("constraint", "copy"),
    [("payment_state", {"request_id": str(uuid4()), "state": "LOST"}), ("one_payment_per_request", {})],
)
async def test_a_payment_cannot_be_added_untrue(
    system: System, approved: Payment, constraint: str, copy: dict[str, str]
) -> None:
    changes = Jsonb({"payment_id": str(uuid4()), **copy})
    with pytest.raises((errors.CheckViolation, errors.UniqueViolation)) as caught:
        await system.rows(
            "INSERT INTO payment SELECT (jsonb_populate_record(payment, %s)).* FROM payment WHERE payment_id = %s",
            changes,
            approved.payment_id,
        )
    assert caught.value.diag.constraint_name == constraint


async def test_the_ledger_takes_no_posting_that_does_not_balance(system: System, approved: Payment) -> None:
    entries = [
        Entry(approved.payment_id, "REFUND_DUE", "deferred_revenue", 5_000, "EUR", NOW),
        Entry(approved.payment_id, "REFUND_DUE", "refunds_payable", -4_999, "EUR", NOW),
    ]
    with pytest.raises(errors.CheckViolation) as caught:
        async with system.database.transaction() as conn:
            await store.insert_entries(conn, entries)
    assert caught.value.diag.constraint_name == "ledger_postings_sum_to_zero"


async def test_the_ledger_takes_no_posting_twice(system: System, approved: Payment) -> None:
    with pytest.raises(errors.UniqueViolation) as caught:
        async with system.database.transaction() as conn:
            await store.insert_entries(conn, postings(approved))
    assert caught.value.diag.constraint_name == "each_posting_is_made_once"


@pytest.mark.parametrize(
    "change",
    ["UPDATE ledger_entry SET amount_minor = 2 * amount_minor", "DELETE FROM ledger_entry", "TRUNCATE ledger_entry"],
)
async def test_the_ledger_is_append_only(system: System, approved: Payment, change: str) -> None:
    assert approved.state is PaymentState.APPROVED
    with pytest.raises(errors.RestrictViolation) as caught:
        await system.rows(change)
    assert caught.value.diag.constraint_name == "ledger_is_append_only"
