"""What must hold when everything is quiet again: for tickets and money, for whoever was told OK, and on the wire."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Final

from chassis.topology import RETRY_DELAYS_S, parked_queue
from contract.keys import PAYMENTS_QUEUES, RESERVATIONS_QUEUES
from tests.e2e.house import House
from tests.e2e.office import eventually
from tests.e2e.wire import Ear, listening
from tests.proof.stage import Stage
from ticketrush.messages.v1.messages_pb2 import Envelope
from ticketrush.provider.v1 import provider_pb2 as provider

_SERVICES: Final = ("reservations", "payments")
_DURABLE: Final = (
    *(name for queue in (*RESERVATIONS_QUEUES, *PAYMENTS_QUEUES) for name in queue.queues(1)),
    *(f"{service}.retry.{delay_s:g}s" for service in _SERVICES for delay_s in RETRY_DELAYS_S),
    *(parked_queue(service) for service in _SERVICES),
)
# Said by gateways, which keep no books: everything else that is on the wire was committed before.
_COMMANDS: Final = ("reserve_tickets", "cancel_reservation", "request_payment")
_SAID: Final = """
    SELECT message_id::text, kind FROM reservations.history WHERE routing_key IS NOT NULL
    UNION ALL SELECT message_id::text, kind FROM payments.history WHERE routing_key IS NOT NULL"""
_UNDECIDED_RESERVATIONS: Final = """
    SELECT told || ' is ' || coalesce(state, 'unknown') FROM unnest(%s::uuid[]) AS told
    LEFT JOIN reservations.reservation ON reservation_id = told
    WHERE coalesce(state, '') NOT IN ('CONFIRMED', 'REJECTED', 'EXPIRED', 'CANCELLED')"""
_UNDECIDED_PAYMENTS: Final = """
    SELECT told || ' is ' || coalesce(state, 'unknown') FROM unnest(%s::uuid[]) AS told
    LEFT JOIN payments.payment ON payment_id = told
    WHERE coalesce(state, '') NOT IN ('APPROVED', 'REJECTED', 'REFUNDED')"""


# Ways that are seldom taken: a run that took none of one kind proves nothing about it.
_RARE: Final = {
    "late charges that went back": """
        SELECT count(*) FROM reservations.reservation WHERE state = 'EXPIRED' AND refunded_minor = total_minor""",
    "late charges that still bought their tickets": """
        SELECT count(*) FROM reservations.reservation JOIN reservations.history ON subject_id = reservation_id
        WHERE state = 'CONFIRMED' AND kind = 'EXPIRED'""",
    "charges that were tried again": """
        SELECT count(*) FROM payments.payment WHERE state_time > create_time + interval '1 s'""",
}


class Witness:
    """Hears everything that is said on the exchange, from its beginning on."""

    def __init__(self, house: House, ear: Ear) -> None:
        self._house = house
        self._ear = ear

    async def agrees(self) -> None:
        """Fails unless exactly what was committed was said: no message without its row, no row without its message."""
        committed = dict(await self._house.rows(_SAID))
        facts = [one for one in self._ear.heard if one.WhichOneof("payload") not in _COMMANDS]
        ghosts = [f"{one.WhichOneof('payload')} {one.subject_id}" for one in facts if one.message_id not in committed]
        assert not ghosts, f"said and not committed: {ghosts}"
        heard = {one.message_id for one in facts}
        zombies = [f"{kind} {message_id}" for message_id, kind in committed.items() if message_id not in heard]
        assert not zombies, f"committed and never said: {zombies}"

    def commands(self) -> list[Envelope]:
        """What gateways said."""
        return [one for one in self._ear.heard if one.WhichOneof("payload") in _COMMANDS]

    def repeats(self) -> int:
        """How many messages were said more than once."""
        return sum(count > 1 for count in Counter(one.message_id for one in self._ear.heard).values())


@asynccontextmanager
async def witness(house: House) -> AsyncIterator[Witness]:
    """To be there before anything is said."""
    async with house.broker() as channel, listening(channel, "#") as ear:
        yield Witness(house, ear)


async def everything_adds_up(house: House, witness: Witness, stages: Collection[Stage]) -> None:
    """Waits until it is quiet, then fails with whatever is wrong."""
    await house.settled()
    await queues_are_empty(house)
    await house.balances()
    await witness.agrees()
    for sql, told in (
        (_UNDECIDED_RESERVATIONS, _all(stage.reservations for stage in stages)),
        (_UNDECIDED_PAYMENTS, _all(stage.payments for stage in stages)),
    ):
        undecided = [row[0] for row in await house.rows(sql, told)]
        assert not undecided, f"told OK and not final: {undecided}"


async def rare_ways(house: House, witness: Witness) -> dict[str, int]:
    """How often each of them was taken so far."""
    taken = {way: int((await house.rows(sql))[0][0]) for way, sql in _RARE.items()}
    tombstones = [one for one in (await house.statement()).values() if one.state == provider.Charge.STATE_CANCELLED]
    return taken | {"messages said again": witness.repeats(), "tombstones": len(tombstones)}


async def queues_are_empty(house: House) -> None:
    """Returns when no durable queue of the product has a message to give."""
    left: dict[str, int] = {}

    async def empty() -> bool:
        left.clear()
        async with house.broker() as channel:
            for name in _DURABLE:
                queue = await channel.declare_queue(name, passive=True)
                left[name] = queue.declaration_result.message_count or 0
        return not any(left.values())

    await eventually(empty, lambda: f"still queued: {left}")


def _all(sets: Iterable[set[str]]) -> list[str]:
    return sorted(set().union(*sets))
