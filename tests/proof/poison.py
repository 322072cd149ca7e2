"""Poison in the stream: what it costs its neighbours, and whether any of it is lost: `make proof-poison`.

Reserve commands are said straight to the exchange, as a gateway would, and timed until all of them are decided: without
poison, with MALFORMED envelopes among them (5 %), and with commands on which the database fails (5 %), turn by turn.
Then the defect of the database is mended, and what was set aside is sent again, twice.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import grpc
import psycopg
from google.protobuf.duration_pb2 import Duration
from rich.console import Console
from rich.table import Table

from chassis.database import Database
from chassis.publisher import Publisher
from contract import ids, keys
from deploy.process import wait_until
from deploy.services import SERVICES, settings
from deploy.stack import Stack
from ops.audit import Doing
from ops.parked import redrive as redriving
from tests.chassis.broker import running, until
from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub

ROUNDS: Final = 5
COMMANDS: Final = 4_000
POISON_EVERY: Final = 20
ENOUGH_PERCENT: Final = 90
# Of the service under test: the steps of the ladder are the same three, in a few seconds instead of eleven minutes.
RETRY_DELAYS_S: Final = (1.0, 2.0, 4.0)
TIMEOUT_S: Final = 120.0
POLL_S: Final = 0.01
CALM, MALFORMED, FAILING = "calm", "5 % malformed", "5 % that the database fails on"
_RUN: Final = f"""
import runpy, chassis.topology
chassis.topology.RETRY_DELAYS_S = {RETRY_DELAYS_S}
runpy.run_module("reservations", run_name="__main__")
"""
# The defect: whoever is called Mallory breaks the statement.
_BREAK: Final = """
CREATE FUNCTION reservations.fails() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'a defect'; END $$;
CREATE TRIGGER defect BEFORE INSERT ON reservations.reservation
FOR EACH ROW WHEN (NEW.buyer_id LIKE 'mallory-%') EXECUTE FUNCTION reservations.fails()
"""
_MEND: Final = "DROP TRIGGER defect ON reservations.reservation"

console: Final = Console(width=130)


class Stage:
    """Reservations on servers of its own, and a voice to its queue."""

    def __init__(
        self, stack: Stack, publisher: Publisher, admin: psycopg.AsyncConnection, channel: grpc.aio.Channel
    ) -> None:
        self.stack = stack
        self._publisher = publisher
        self.admin = admin
        self._catalog = CatalogServiceStub(channel)
        self.poison: dict[str, list[messages.Envelope]] = {MALFORMED: [], FAILING: []}

    async def round(self, kind: str) -> float:
        """How many commands a second were decided, beside poison of this kind."""
        event_id, tickets = await self._on_sale()
        said: list[messages.Envelope] = []
        for number, ticket_id in enumerate(tickets):
            said.append(reserve(event_id, f"buyer-{number}", ticket_id))
            if kind != CALM and number % POISON_EVERY == 0:
                bad = reserve(event_id, f"mallory-{uuid4().hex[:8]}", ticket_id)
                if kind == MALFORMED:
                    bad.reserve_tickets.reservation_id = "none"
                self.poison[kind].append(bad)
                said.append(bad)
        begin = time.monotonic()
        await asyncio.gather(*(self.say(envelope) for envelope in said))
        await self.until(
            "SELECT count(*) FROM reservations.reservation WHERE event_id = %s AND buyer_id LIKE 'buyer-%%'",
            event_id,
            len(tickets),
        )
        return len(tickets) / (time.monotonic() - begin)

    async def say(self, envelope: messages.Envelope) -> None:
        await self._publisher.publish(
            keys.RESERVATION_REQUESTED, envelope.message_id, envelope.SerializeToString(), shard=0
        )

    async def rows(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        return await (await self.admin.execute(sql.encode(), parameters)).fetchall()

    async def all_parked(self) -> None:
        """Returns when as many are set aside as there is poison so far."""
        count = sum(map(len, self.poison.values()))
        await self.until("SELECT count(*) FROM reservations.parked_message WHERE state = %s", "PARKED", count)

    async def lone(self) -> tuple[str, str]:
        """An event and a buyer for one more command."""
        [(event_id,), *_] = await self.rows("SELECT event_id FROM reservations.event")
        return str(event_id), f"last-{uuid4().hex[:8]}"

    async def redrive(self) -> None:
        """Everything that is set aside, once."""
        found = await self.rows("SELECT parked_id FROM reservations.parked_message WHERE state = 'PARKED'")
        database = Database(self.stack.database_url("reservations"), schema="reservations", application="proof-poison")
        await database.open()
        doing = Doing("proof", redriving.ACTION, "the defect is mended")
        await redriving.redrive(database, self._publisher, [int(str(row[0])) for row in found], doing)
        await database.close()

    async def _on_sale(self) -> tuple[str, Sequence[str]]:
        event = catalog.Event(name="Hamlet", currency="EUR", hold_duration=Duration(seconds=3_600))
        created = await self._catalog.CreateEvent(catalog.CreateEventRequest(request_id=str(uuid4()), event=event))
        block = catalog.Block(section="floor", price_minor=100)
        block.grid.rows, block.grid.seats_per_row = COMMANDS // 50, 50
        event_id = created.event.event_id
        await self._catalog.CreateTickets(
            catalog.CreateTicketsRequest(request_id=str(uuid4()), event_id=event_id, blocks=[block])
        )
        found = await self.rows("SELECT ticket_id FROM reservations.ticket WHERE event_id = %s", event_id)
        return event_id, [str(row[0]) for row in found]

    async def until(self, count: str, *parameters: object) -> None:
        """Returns when the count, of all but the last parameter, has reached the last one."""
        *given, wanted = parameters
        async with asyncio.timeout(TIMEOUT_S):
            while (await self.rows(count, *given))[0][0] != wanted:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(POLL_S)


def reserve(event_id: str, buyer_id: str, ticket_id: str) -> messages.Envelope:
    """A Reserve, as a gateway says it."""
    request_id = str(uuid4())
    reservation_id = ids.reservation_id(UUID(event_id), buyer_id, request_id)
    command = messages.ReserveTickets(
        reservation_id=str(reservation_id),
        request_id=request_id,
        event_id=event_id,
        buyer_id=buyer_id,
        ticket_ids=[ticket_id],
    )
    envelope = messages.Envelope(
        message_id=str(ids.command_id(reservation_id, "Reserve", buyer_id, request_id)),
        subject_id=str(reservation_id),
        reserve_tickets=command,
    )
    envelope.occur_time.GetCurrentTime()
    return envelope


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """All of it from nothing, and gone at the end."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="ticketrush-poison-")))
    process: asyncio.subprocess.Process | None = None
    try:
        await asyncio.to_thread(stack.up, ("postgres", "rabbitmq"))
        await asyncio.to_thread(stack.migrate)
        [service] = [service for service in SERVICES if service.name == "reservations"]
        with stack.log("reservations").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _RUN, env=os.environ | settings(service, stack.env), stdout=log, stderr=log
            )
        if not await asyncio.to_thread(wait_until, lambda: stack.is_serving("reservations"), TIMEOUT_S):
            raise RuntimeError(f"reservations does not serve:\n{stack.log('reservations').read_text()}")
        publisher = Publisher(
            stack.env["AMQP_URL"], exchange=keys.EXCHANGE, mandatory_keys=keys.REQUIRED, name="proof-poison"
        )
        async with (
            await psycopg.AsyncConnection.connect(stack.env["DATABASE_URL"], autocommit=True) as admin,
            stack.channel("reservations") as channel,
            running(publisher.run()),
        ):
            await until(lambda: publisher.connected)
            yield Stage(stack, publisher, admin, channel)
    finally:
        if process and process.returncode is None:
            process.terminate()
            await process.wait()
        await asyncio.to_thread(stack.clean)


async def prove(rounds: int) -> tuple[dict[str, list[float]], list[str]]:
    """Commands a second by kind of round, and whatever was wrong."""
    speeds: dict[str, list[float]] = {CALM: [], MALFORMED: [], FAILING: []}
    wrong: list[str] = []
    async with staged() as stage:
        await stage.admin.execute(_BREAK)
        await stage.round(CALM)
        with console.status("") as status:
            for number in range(rounds):
                for kind, found in speeds.items():
                    status.update(f"round {number + 1} of {rounds}: {kind}")
                    found.append(await stage.round(kind))
                    # What climbs the ladder still would be a burden to the next round.
                    await stage.all_parked()
            status.update("until all poison is set aside")
            wrong += await _parked(stage)
            status.update("mended, and sent again")
            wrong += await _redriven(stage)
    return speeds, wrong


async def _parked(stage: Stage) -> list[str]:
    """Exactly the poison is set aside, each once."""
    poison = [envelope.message_id for kind in stage.poison.values() for envelope in kind]
    await stage.all_parked()
    parked = [str(row[0]) for row in await stage.rows("SELECT message_id FROM reservations.parked_message")]
    return [] if sorted(parked) == sorted(poison) else ["what is set aside is not exactly the poison"]


async def _redriven(stage: Stage) -> list[str]:
    """Once the defect is mended each command has one effect, however often it is sent; malformed ones have none."""
    await stage.admin.execute(_MEND)
    await stage.redrive()
    count = "SELECT count(*) FROM reservations.reservation WHERE buyer_id LIKE %s"
    await stage.until(count, "mallory-%", len(stage.poison[FAILING]))
    for envelope in stage.poison[FAILING]:
        await stage.say(envelope)
    await _parked_again(stage)
    steps = await stage.rows(
        "SELECT count(*) FROM reservations.history JOIN reservations.reservation ON subject_id = reservation_id "
        "WHERE buyer_id LIKE 'mallory-%%' GROUP BY reservation_id HAVING count(*) <> 1"
    )
    [(applied,)] = await stage.rows(count, "mallory-%")
    return ([f"{len(steps)} were applied more than once"] if steps else []) + (
        [] if applied == len(stage.poison[FAILING]) else [f"{applied} were applied"]
    )


async def _parked_again(stage: Stage) -> None:
    """Returns when what was sent again and is malformed lies where it lay, and nothing is under way any more."""
    await stage.until(
        "SELECT count(DISTINCT message_id) FROM reservations.parked_message WHERE state = %s",
        "PARKED",
        len(stage.poison[MALFORMED]),
    )
    last = reserve(*await stage.lone(), str(uuid4()))
    await stage.say(last)
    await stage.until("SELECT count(*) FROM reservations.reservation WHERE reservation_id = %s", last.subject_id, 1)


def main() -> int:
    """0 if nothing was wrong and the neighbours of poison were fast enough."""
    begin = time.monotonic()
    speeds, wrong = asyncio.run(prove(ROUNDS))
    table = Table("beside", "decided/s, median", "of calm, %", "rounds")
    ratios = {}
    for kind, found in speeds.items():
        ratios[kind] = 100 * statistics.median(a / b for a, b in zip(found, speeds[CALM], strict=True))
        rounds = ", ".join(f"{speed:,.0f}" for speed in found)
        table.add_row(kind, f"{statistics.median(found):,.0f}", f"{ratios[kind]:.0f}", rounds)
    console.print(table)
    if ratios[MALFORMED] < ENOUGH_PERCENT:
        wrong.append(f"beside malformed envelopes the others have {ratios[MALFORMED]:.0f} %, not {ENOUGH_PERCENT}")
    console.print("\n".join(wrong) or "exactly the poison was set aside; sent again, each was applied once")
    console.print(f"{time.monotonic() - begin:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
