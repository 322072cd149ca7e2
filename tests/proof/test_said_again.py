"""Everything that was ever said, said again in any order, also to processes that remember nothing, a year later."""

import random
from collections.abc import Sequence

from tests.e2e import ledgers
from tests.e2e.house import SERVICES, House
from tests.e2e.office import eventually
from tests.e2e.wire import listening, say
from tests.proof.audit import Witness, everything_adds_up
from tests.proof.trial import play
from ticketrush.messages.v1.messages_pb2 import Envelope

COMMANDS = {
    "reserve_tickets": "ticket.reservation.requested",
    "cancel_reservation": "ticket.reservation.cancel_requested",
    "request_payment": "ticket.payments.requested",
}
REFUND = "ticket.refunds.requested"
TIMES = 3
A_YEAR_PASSES = (
    """UPDATE reservations.reservation SET create_time = create_time - span, expire_time = expire_time - span,
           release_time = release_time - span, instalment_time = instalment_time - span
       FROM (SELECT interval '1 year' AS span) AS passed""",
    "UPDATE reservations.credit SET open_time = open_time - interval '1 year'",
    """UPDATE payments.payment SET create_time = create_time - interval '1 year',
           state_time = state_time - interval '1 year'""",
)

Said = tuple[str, Envelope]


async def test_saying_everything_three_times_and_all_of_it_a_year_later_changes_nothing(
    house: House, heard: Witness
) -> None:
    stages = await play(house)
    await everything_adds_up(house, heard, stages.values())
    everything = await all_that_was_said(house, heard)
    assert {key for key, _ in everything} > {*COMMANDS.values(), REFUND}
    books, statement = await image(house), await house.statement()
    again = everything * TIMES
    random.Random(5).shuffle(again)  # noqa: S311 # any order will do, the same each time
    await say_again(house, again)
    assert await image(house) == books

    for sql in A_YEAR_PASSES:
        await house.rows(sql)
    await house.kill(*SERVICES)
    await house.up(*SERVICES)
    await say_again(house, everything)
    await everything_adds_up(house, heard, stages.values())
    assert await image(house) == books
    assert await house.statement() == statement


async def all_that_was_said(house: House, heard: Witness) -> list[Said]:
    """Commands as gateways said them, and the rest as it stands in history."""
    commands = [(COMMANDS[str(one.WhichOneof("payload"))], one) for one in heard.commands()]
    rows = [
        row
        for schema in ("reservations", "payments")
        for row in await house.rows(
            f"SELECT routing_key, envelope FROM {schema}.history WHERE routing_key IS NOT NULL ORDER BY history_id"  # noqa: S608 # ours
        )
    ]
    return commands + [(routing_key, Envelope.FromString(envelope)) for routing_key, envelope in rows]


async def image(house: House) -> object:
    """All that a message may change."""
    async with house.database() as conn:
        return await ledgers.image(conn)


async def say_again(house: House, said: Sequence[Said]) -> None:
    """Says all of it; returns when it, and what came of it, is done."""
    refunds = sum(routing_key == REFUND for routing_key, _ in said)
    before = await _refunds_taken(house)
    async with house.broker() as channel, listening(channel) as ear:
        for routing_key, envelope in said:
            await say(channel, routing_key, envelope)

        async def all_refunds_are_taken() -> bool:
            return await _refunds_taken(house) >= before + refunds

        await eventually(all_refunds_are_taken)
        # Queues are taken in order, and a payment is answered by way of both queues of money.
        for payload, routing_key in COMMANDS.items():
            last = Envelope()
            last.CopyFrom(next(one for _, one in said if one.WhichOneof("payload") == payload))
            last.reply_to = ear.queue
            await say(channel, routing_key, last)
            await ear.hears(lambda one, wanted=last.message_id: one.command_id == wanted)  # type: ignore[misc]
    await house.settled()


async def _refunds_taken(house: House) -> float:
    return await house.figure("payments", "ticketrush_amqp_consumed_envelopes_total", queue="payments.refunds")
