"""How often a batch is tried, and who is blamed."""

from collections.abc import Sequence

import psycopg

from chassis.attempts import ATTEMPTS_MAX, Failure, apply
from tests.chassis.broker import envelope
from ticketrush.messages.v1 import messages_pb2 as pb


async def test_bad_luck_that_lasts_fails_all_of_them_without_looking_for_a_culprit() -> None:
    """In parts, a thousand lock timeouts in a row would stall the queue for an hour."""
    batches: list[int] = []

    async def handler(envelopes: Sequence[pb.Envelope]) -> Sequence[Failure]:
        batches.append(len(envelopes))
        raise psycopg.errors.LockNotAvailable

    failures = await apply(handler, [envelope("a"), envelope("b")], "a test")
    assert [failure.envelope.message_id for failure in failures] == ["a", "b"]
    assert batches == [2] * ATTEMPTS_MAX


async def test_an_error_is_not_tried_again_on_the_spot() -> None:
    batches: list[int] = []

    async def handler(envelopes: Sequence[pb.Envelope]) -> Sequence[Failure]:
        batches.append(len(envelopes))
        raise ValueError

    failures = await apply(handler, [envelope("a")], "a test")
    assert [type(failure.error) for failure in failures] == [ValueError]
    assert batches == [1]


async def test_a_database_that_is_gone_outlasts_any_number_of_attempts_and_fails_nobody() -> None:
    errors = [psycopg.OperationalError("the connection is lost") for _ in range(ATTEMPTS_MAX + 1)]
    batches: list[int] = []

    async def handler(envelopes: Sequence[pb.Envelope]) -> Sequence[Failure]:
        batches.append(len(envelopes))
        if errors:
            raise errors.pop()
        return []

    assert await apply(handler, [envelope("a"), envelope("b")], "a test") == []
    assert batches == [2] * (ATTEMPTS_MAX + 2)
