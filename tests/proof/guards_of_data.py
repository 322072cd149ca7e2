"""Guards of who may read and write what, of secrets, and of what is kept about people."""

from typing import Final

from tests.proof.guard import Edit, Guard

GRANTS: Final = "deploy/grants.py"

RIGHTS: Final = (
    Guard(
        "rights that nobody wrote down are taken back",
        (Edit(GRANTS, '            "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {all}",\n', ""),),
        ("tests/deploy/test_migrate.py::test_what_was_granted_by_hand_goes_with_the_next_migrate",),
    ),
    Guard(
        "rights end at the database for strangers",
        (Edit(GRANTS, '    await conn.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))\n', ""),),
        ("tests/deploy/test_grants.py::test_a_stranger_may_not_even_connect",),
    ),
    Guard(
        "rights of owners are nobody's who logs in",
        (Edit("deploy/migrate.py", '"CREATE ROLE {} NOLOGIN"', '"CREATE ROLE {} LOGIN"'),),
        ("tests/deploy/test_grants.py::test_nobody_is_a_superuser_or_a_member_of_the_owner",),
    ),
    Guard(
        "rights of the gateway at the broker end with its commands",
        (
            Edit(
                "contract/broker.py",
                '"write": _any_of(map(re.escape, user.says)),',
                '"write": ".*",',
            ),
        ),
        ("tests/deploy/test_broker_users.py::test_a_user_says_the_keys_of_its_service_and_no_others",),
    ),
)

PAST: Final = (
    Guard(
        "a charge that has gone back buys nothing",
        (Edit("payments/processor.py", "case pb.Charge.STATE_APPROVED if charge.refunded_minor:", "case -1:"),),
        ("tests/ops/test_reconciling.py::test_a_past_that_came_back_is_brought_together_with_the_processor",),
    ),
    Guard(
        "a charge goes back only while nobody can begin its payment",
        (
            Edit(
                "ops/reconciling/settling.py",
                '        await conn.execute("LOCK TABLE payment IN SHARE ROW EXCLUSIVE MODE")\n',
                "",
            ),
        ),
        ("tests/ops/test_reconciling.py::test_nobody_can_begin_a_payment_while_its_charge_is_given_back",),
    ),
    Guard(
        "an unknown charge is in order only by an operator's word",
        (Edit("ops/fsck/crossings.py", "OR state IS NULL AND EXISTS (", "OR state IS NULL OR EXISTS ("),),
        (
            "tests/ops/test_reconciling.py::test_an_unknown_charge_is_in_order_only_when_it_is_back_and_an_operator_said_so",
        ),
    ),
    Guard(
        "numbers are not given out twice after a restore",
        (Edit("deploy/stack.py", '            asyncio.run(migrate.skip_numbers(self.env["DATABASE_URL"]))\n', ""),),
        (
            "tests/deploy/test_backups.py::test_the_database_is_what_it_was_at_that_instant_and_no_number_is_given_out_twice",
        ),
    ),
)

PEOPLE: Final = (
    Guard(
        "history is rewritten only to forget",
        (Edit("chassis/migrations/0003_forgetting.sql", "\n      AND EXISTS (SELECT FROM forgetting);", ";"),),
        ("tests/ops/test_forgetting.py::test_history_is_rewritten_only_while_somebody_is_being_forgotten",),
    ),
    Guard(
        "forgetting takes the request_id, too",
        (
            Edit(
                "reservations/migrations/0004_forgetting.sql",
                "SET buyer_id = new_name, request_id = gen_random_uuid()\n        FROM past",
                "SET buyer_id = new_name\n        FROM past",
            ),
        ),
        ("tests/ops/test_forgetting.py::test_nothing_tells_of_a_forgotten_buyer_and_the_books_balance",),
    ),
    Guard(
        "a card's token goes when its message is settled",
        (Edit("ops/parked/store.py", "THEN ''::bytea ELSE body END", "THEN body ELSE body END"),),
        ("tests/ops/test_parked.py::test_a_cards_token_is_kept_no_longer_than_its_message_may_be_sent_again",),
    ),
    Guard(
        "settings do not show their secrets",
        (Edit("chassis/settings.py", "AfterValidator(_amqp_url), Field(repr=False)", "AfterValidator(_amqp_url)"),),
        ("tests/chassis/test_settings.py::test_no_repr_shows_a_password",),
    ),
)
