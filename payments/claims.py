"""Keeps a bounded amount of work on payments going, taken from the database when due or handed over in memory."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Final
from uuid import UUID

from prometheus_client import Counter, Gauge

from chassis.database import is_transient
from payments.domain import Payment

log = logging.getLogger(__name__)

# Only a safety net, for what a process that is gone has left behind: everything else is announced by `look`.
POLL_INTERVAL_S: Final = 1.0
# Older than this it is left to its lease, which must not run out while the work is under way.
HANDED_AGE_MAX_S: Final = 3.0

_in_flight = Gauge("ticketrush_payments_in_flight", "Charges and refunds under way.", ("work",))
_failures = Counter("ticketrush_payments_work_failed", "Charges and refunds left to the end of their lease.", ("work",))


class ClaimLoop:
    """Claims payments that are due while there is room for them, and begins the work on each.

    `claim` takes at most so many payments, under a lease. `begin` gets what was taken and calls `start` once for each;
    while it runs, the next batch forms. A piece of work that fails is left to its lease. `give_back` ends the leases of
    what is not done when the process stops: whoever is left goes on with it at once.
    """

    def __init__(
        self,
        *,
        name: str,
        in_flight_max: int,
        claim: Callable[[int], Awaitable[list[Payment]]],
        begin: Callable[[list[Payment]], Awaitable[None]],
        give_back: Callable[[Sequence[Payment]], Awaitable[None]],
    ) -> None:
        self._name = name
        self._in_flight_max = in_flight_max
        self._claim = claim
        self._begin = begin
        self._give_back = give_back
        self._handed: deque[tuple[float, Payment]] = deque()
        self._beginning = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_hand: dict[UUID, Payment] = {}
        self._wake = asyncio.Event()
        self._due = False
        self._stopping = False
        self._finished = asyncio.Event()
        _in_flight.labels(name).set_function(lambda: len(self._tasks))

    def look(self, delay_s: float = 0.0) -> None:
        """Tells that a payment is due now or after a delay; beyond POLL_INTERVAL_S the poll is trusted to find it."""
        if delay_s == 0:
            self._due = True
            self._wake.set()
        elif delay_s < POLL_INTERVAL_S:
            asyncio.get_running_loop().call_later(delay_s, self.look)

    def has_room(self, count: int) -> bool:
        """Whether so many payments may be handed over: those that can begin at once.

        Any more would outwait HANDED_AGE_MAX_S behind slow cards, and then the end of their lease.
        """
        return not (self._stopping or self._due) and self._room() - len(self._handed) >= count

    def hand_over(self, payments: Sequence[Payment]) -> None:
        """Takes payments that the caller has just committed under a lease, which saves claiming them."""
        now = asyncio.get_running_loop().time()
        self._handed.extend((now, payment) for payment in payments)
        self._wake.set()

    def start(self, payment: Payment, work: Coroutine[None, None, None]) -> None:
        """Runs the work on one payment that was taken."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, payment))

    async def run(self) -> None:
        """Works until cancelled; then cancels what is still under way."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._work())
                tasks.create_task(self._poll())
        finally:
            for task in self._tasks:
                task.cancel()

    async def drain(self, timeout_s: float) -> None:
        """Claims nothing more; returns when what was taken is done, or when the time is over and it is given back."""
        self._stopping = True
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._finished.wait()
        left = [*self._in_hand.values(), *(payment for _, payment in self._handed)]
        if left:
            log.info("%s: %d are given back unfinished", self._name, len(left))
            try:
                await self._give_back(left)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("%s: they are left to the end of their lease: %s", self._name, error)

    async def _poll(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := await self._take():
                await self._begin(batch)
                self._beginning = 0
            if self._stopping and not self._tasks:
                self._finished.set()

    async def _take(self) -> list[Payment]:
        """As many payments as there is room for: those handed over, for whom it is kept, and what is due."""
        room = self._room()
        taken: list[Payment] = []
        unpromised = room - len(self._handed)
        if self._due and unpromised > 0 and not self._stopping:
            self._due = False
            # All of it may be taken, until it is known how much is.
            self._beginning = unpromised
            taken = await self._claim_due(unpromised)
        too_old = asyncio.get_running_loop().time() - HANDED_AGE_MAX_S
        while self._handed and len(taken) < room:
            since, payment = self._handed.popleft()
            if since > too_old:
                taken.append(payment)
        self._beginning = len(taken)
        self._in_hand |= {payment.payment_id: payment for payment in taken}
        return taken

    def _room(self) -> int:
        return self._in_flight_max - len(self._tasks) - self._beginning

    async def _claim_due(self, room: int) -> list[Payment]:
        try:
            claimed = await self._claim(room)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("%s: nothing can be claimed now: %s", self._name, error)
            return []
        if len(claimed) == room:
            # There may be more.
            self._due = True
        return claimed

    def _ended(self, payment: Payment, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._in_hand.pop(payment.payment_id, None)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _failures.labels(self._name).inc()
            log.error("%s: a payment is left to the end of its lease", self._name, exc_info=error)
