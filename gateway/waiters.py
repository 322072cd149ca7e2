"""Calls that wait for the outcome of a command: many may wait for the same one."""

import asyncio
from typing import Final

from prometheus_client import Gauge

from chassis import tracing
from chassis.errors import overloaded
from gateway.commands import Command
from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.v1 import ticketing_pb2 as pb

WAITING_MAX: Final = 10_000
RETRY_AFTER_S: Final = 1.0
# As long as a call waits by default; who asked for more is answered PENDING when the gateway stops.
DRAIN_TIMEOUT_S: Final = 2.0

_waiting = Gauge("ticketrush_gateway_waiting_calls", "Calls that wait for the outcome of a command.")

_UNDECIDED = (pb.Payment.STATE_UNSPECIFIED, pb.Payment.STATE_PENDING)


class Waiters:
    """At most WAITING_MAX calls, found by the command_id of the outcome they wait for."""

    def __init__(self) -> None:
        self._by_command: dict[str, tuple[Command, list[asyncio.Future[messages.Outcome]]]] = {}
        self._count = 0
        _waiting.set_function(lambda: self._count)

    def add(self, command: Command) -> "asyncio.Future[messages.Outcome]":
        """A place to wait, to be given to `remove` afterwards; it is cancelled when the gateway stops.

        Raises CallError (RESOURCE_EXHAUSTED, TOO_MANY_CALLS).
        """
        if self._count >= WAITING_MAX:
            message = f"{self._count} calls are waiting already; send the same request again later"
            raise overloaded("TOO_MANY_CALLS", message, RETRY_AFTER_S)
        waiter: asyncio.Future[messages.Outcome] = asyncio.get_running_loop().create_future()
        self._by_command.setdefault(command.message_id, (command, []))[1].append(waiter)
        self._count += 1
        return waiter

    def remove(self, command: Command, waiter: "asyncio.Future[messages.Outcome]") -> None:
        """Gives a place back, whatever became of it."""
        _, waiters = self._by_command[command.message_id]
        waiters.remove(waiter)
        if not waiters:
            del self._by_command[command.message_id]
        self._count -= 1

    def take(self, envelope: messages.Envelope) -> None:
        """Hands an outcome to the calls that wait for it; whoever gave up has been answered PENDING."""
        outcome = envelope.outcome
        # Pay is promised nothing less than a rejection, or money that is applied or on its way back.
        if outcome.HasField("payment") and outcome.payment.state in _UNDECIDED:
            return
        _, waiters = self._by_command.get(envelope.command_id, (None, ()))
        if waiters:
            tracing.arrived("outcome", envelope)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(outcome)

    def commands(self) -> list[Command]:
        """Each command that any call waits for."""
        return [command for command, _ in self._by_command.values()]

    async def drain(self) -> None:
        """Lets waiting calls have their outcomes for DRAIN_TIMEOUT_S, then sends the rest away without."""
        if waiting := self._all():
            await asyncio.wait(waiting, timeout=DRAIN_TIMEOUT_S)
        for waiter in self._all():
            waiter.cancel()

    def _all(self) -> "list[asyncio.Future[messages.Outcome]]":
        return [waiter for _, waiters in self._by_command.values() for waiter in waiters]
