"""The drill, act by act: sell, copy, go on selling, destroy, restore, bring the money in order, sell again."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg

from chaos import books
from chaos.cells import CELLS
from chaos.clients import Client, dial
from chaos.drill.desk import OPERATOR, Desk
from chaos.drill.outcome import Outcome
from chaos.drill.verdict import judge
from chaos.load import full_house
from chaos.record import Record, Request
from chaos.sale import drawn_id
from chaos.system import SERVERS, SERVICE_NAMES, System
from deploy.stack import Stack
from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub

PARTS: Final = (*SERVERS, *SERVICE_NAMES)
WARM_UP_S: Final = 8.0
SELLING_S: Final = 10.0
FORGOTTEN_S: Final = 15.0
# The server hands over what it wrote at least every minute.
ARCHIVED_WITHIN_S: Final = 120.0
SOLD_WITHIN_S: Final = 60.0
SETTLED_WITHIN_S: Final = 240.0
POLL_INTERVAL_S: Final = 1.0
CELL: Final = "calm"
BUYER: Final = "after-the-restore"
REASON: Final = "drill: restored to a point in time"


class Play:
    """One drill on a stack of its own, that keeps back-ups."""

    def __init__(self, stack: Stack, seed: str, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._seed = seed
        self._say = say
        self._random = Random(f"{seed}/drill")
        self._event_id = ""
        self.record = Record()
        self.outcome = Outcome()

    async def run(self) -> None:
        """What is not as it must be is in the outcome. Raises StackError, and what the drill itself stumbles over."""
        self._say("a stack of its own")
        await asyncio.to_thread(self._stack.up, PARTS)
        target, last_number = await self._sell_and_destroy()
        self.outcome.target = target
        self._say(f"restoring to {target:%H:%M:%S}")
        begin = time.monotonic()
        await asyncio.to_thread(self._stack.restore, target)
        self.outcome.restored_s = time.monotonic() - begin
        kept_number = await self._last_number()
        self.outcome.expect(kept_number < last_number, "nothing was forgotten: no drill")
        self._say("the services")
        await asyncio.to_thread(self._stack.up, PARTS)
        async with self._client() as client:
            await self._buy(client, BUYER)
            self.outcome.selling_s = time.monotonic() - begin
            await self._reconcile()
            await self._repeat_what_is_lost(client, target)
        await self._settle()
        self.outcome.settled_s = time.monotonic() - begin
        self.outcome.expect(await self._first_number(kept_number) > last_number, "numbers were given out twice")
        async with self._stack.channel("provider") as channel:
            statement = await books.statement(PaymentProviderServiceStub(channel))
        found = await books.read(self._stack.env["DATABASE_URL"], statement)
        judge(self.record, found, target.timestamp(), self.outcome)

    def stop(self) -> None:
        """Ends and removes the stack; how services stop is tested elsewhere, so they are killed."""
        for name in SERVICE_NAMES:
            self._stack.kill(name)
        self._stack.clean()

    async def _sell_and_destroy(self) -> tuple[datetime, int]:
        """The point in time, and the last number of history that was given out after it."""
        stack = self._stack
        async with full_house(
            stack.address("gateway"),
            stack.operator_token,
            self.record,
            CELLS[CELL],
            self._seed,
            buyers=System.buyers,
        ) as house:
            self._event_id = house.patient.event_id
            self._say("the house fills")
            await asyncio.sleep(WARM_UP_S)
            self._say("a whole copy, while it sells")
            begin = time.monotonic()
            await asyncio.to_thread(stack.back_up)
            self.outcome.backup_s = time.monotonic() - begin
            await asyncio.sleep(SELLING_S)
            [(target, segment)] = await self._rows("SELECT clock_timestamp(), pg_walfile_name(pg_current_wal_lsn())")
            self._say(f"the point in time is {target:%H:%M:%S}; it goes on selling")
            await asyncio.sleep(FORGOTTEN_S)
            await self._is_archived(segment)
            [(number, now, lag_s)] = await self._rows(
                """SELECT (SELECT max(history_id) FROM reservations.history), clock_timestamp(),
                          extract(epoch FROM clock_timestamp() - last_archived_time)::float8 FROM pg_stat_archiver"""
            )
            self.outcome.forgotten_s, self.outcome.archive_lag_s = (now - target).total_seconds(), lag_s
            self._say("kill -9, and its data are removed, under load")
            await asyncio.to_thread(stack.kill, "postgres")
            await asyncio.to_thread(shutil.rmtree, stack.run_dir.joinpath("postgres").resolve() / "data")
        return target, number

    async def _is_archived(self, segment: str) -> None:
        async with asyncio.timeout(ARCHIVED_WITHIN_S):
            while True:
                [(last,)] = await self._rows("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver")
                if last >= segment:
                    return
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _buy(self, client: Client, buyer: str) -> None:
        """Somebody buys a seat, as soon as that can be done."""
        reserve = Request("Reserve", drawn_id(self._random), buyer, self._event_id, CELL, quantity=1)
        held = await client.insist(client.begin(reserve), patience_s=SOLD_WITHIN_S)
        state = held.reservation.state if held and held.reservation else "not decided"
        self.outcome.expect(state == "HELD", f"the first buyer after the restore: {state}")
        if held and held.reservation and state == "HELD":
            bought = await client.insist(client.begin(self._pay(buyer, held.reservation.reservation_id)))
            is_sold = bought and bought.reservation and bought.reservation.state == "CONFIRMED"
            self.outcome.expect(bool(is_sold), f"the first buyer after the restore: {bought}")

    def _pay(self, buyer: str, reservation_id: str) -> Request:
        return Request(
            "Pay",
            drawn_id(self._random),
            buyer,
            self._event_id,
            CELL,
            reservation_id=reservation_id,
            payment_method="pm_card_ok",
        )

    async def _reconcile(self) -> None:
        """Types what the runbook says until nothing is left."""
        desk = Desk(self._stack.env)
        end = time.monotonic() + SETTLED_WITHIN_S
        while time.monotonic() < end:
            looked = await desk.type("payments", "differences", "--json")
            if looked.code == 0:
                return
            self.outcome.rounds += 1
            typed = await desk.type("payments", "reconcile", "--reason", REASON, "--operator", OPERATOR, "--json")
            if typed.code == 3:
                self.outcome.expect(False, f"reconcile: {typed.err}")
                return
            done = [one for one in typed.answer["settled"] if not one["problem"]]
            self.outcome.remedies.update(one["remedy"] for one in done)
            self._say(f"reconciled {len(done)} of {len(typed.answer['settled'])}")
        self.outcome.expect(False, f"the processor and the books still differ: {looked.out}")

    async def _repeat_what_is_lost(self, client: Client, target: datetime) -> None:
        """A buyer whose sale is forgotten sends the same requests again: no ticket for money that has gone back."""
        sale = self._whole_sale_after(target.timestamp())
        self.outcome.expect(sale is not None, "no sale after the point in time could be repeated")
        if sale is None:
            return
        for request in sale:
            again = Request(
                request.call,
                request.request_id,
                request.buyer_id,
                request.event_id,
                request.cell,
                reservation_id=request.reservation_id,
                ticket_ids=request.ticket_ids,
                quantity=request.quantity,
                amount_minor=request.amount_minor,
                payment_method=request.payment_method,
            )
            answer = await client.insist(client.begin(again))
            told = answer.payment if answer and request.call == "Pay" else None
            if request.call == "Pay":
                self.outcome.expect(bool(told and told.state == "REJECTED"), f"a lost payment, sent again: {answer}")

    def _whole_sale_after(self, target_s: float) -> tuple[Request, Request] | None:
        """A Reserve that was begun after the point in time, and the one Pay that bought it."""
        reserves = {
            request.decision.reservation.reservation_id: request
            for request in self.record.requests
            if request.call == "Reserve"
            and request.answers
            and request.answers[0].begin_s > target_s
            and request.decision
            and request.decision.reservation
        }
        for request in self.record.requests:
            decision = request.decision if request.call == "Pay" and request.buyer_id != BUYER else None
            bought = decision.reservation if decision and request.amount_minor == 0 else None
            if bought and bought.state == "CONFIRMED" and bought.reservation_id in reserves:
                return reserves[bought.reservation_id], request
        return None

    async def _settle(self) -> None:
        """Returns when nothing is under way and the seven hold."""
        desk = Desk(self._stack.env)
        end = time.monotonic() + SETTLED_WITHIN_S
        while (typed := await desk.type("fsck", "--settled")).code and time.monotonic() < end:
            await asyncio.sleep(POLL_INTERVAL_S)
        self.outcome.expect(typed.code == 0, f"fsck --settled:\n{typed.out}{typed.err}")
        left = await desk.type("payments", "differences", "--json")
        found = json.dumps(left.answer) if left.out else left.err
        self.outcome.expect(left.code == 0, f"the processor and the books differ in the end: {found}")

    async def _last_number(self) -> int:
        [(number,)] = await self._rows("SELECT max(history_id) FROM reservations.history")
        return int(number)

    async def _first_number(self, after: int) -> int:
        [(number,)] = await self._rows("SELECT min(history_id) FROM reservations.history WHERE history_id > %s", after)
        return int(number)

    async def _rows(self, sql: str, *values: int) -> list[tuple[Any, ...]]:
        url = self._stack.env["DATABASE_URL"]
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5) as conn:
            return await (await conn.execute(sql.encode(), values)).fetchall()

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        async with dial(self._stack.address("gateway"), self._stack.operator_token) as channel:
            yield Client(channel, self.record, self._random)


def make(run_dir: Path, backup_dir: Path, seed: str, say: Callable[[str], None]) -> Play:
    """A drill whose stack lies in the one folder, its back-ups in the other."""
    return Play(Stack(run_dir, backup_dir=backup_dir), seed, say)
