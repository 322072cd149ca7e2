"""From a command to its outcome: said until the broker has it, then awaited."""

import asyncio
import random
from typing import Final

import grpc
from prometheus_client import Counter

from chassis.errors import CallError, overloaded, unavailable
from chassis.publisher import Overloaded, Publisher, Rejected
from contract import reasons
from gateway.commands import Command
from gateway.waiters import RETRY_AFTER_S, Waiters
from ticketrush.messages.v1 import messages_pb2 as messages

SAY_TIMEOUT_S: Final = 10.0
# For callers without a deadline: longer than saying and the longest wait together.
CALL_TIMEOUT_S: Final = 45.0
BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MAX_S: Final = 1.0

_said_again = Counter("ticketrush_gateway_commands_said_again", "Commands said more than once.")

_REFUSALS: Final = {
    reasons.REQUEST_ID_REUSED: (grpc.StatusCode.ALREADY_EXISTS, "this request_id was used with another body"),
    reasons.UNKNOWN_RESERVATION: (grpc.StatusCode.NOT_FOUND, "this buyer has no such reservation"),
    reasons.ALREADY_CONFIRMED: (grpc.StatusCode.FAILED_PRECONDITION, "the reservation is paid in full"),
    reasons.ALREADY_REJECTED: (grpc.StatusCode.FAILED_PRECONDITION, "the reservation was rejected"),
}
_UNKNOWN_REFUSAL: Final = (grpc.StatusCode.FAILED_PRECONDITION, "the command was refused")

Outcome = messages.Outcome
_Waiter = asyncio.Future[Outcome]


class Submission:
    """Says commands and waits for what becomes of them."""

    def __init__(self, publisher: Publisher, waiters: Waiters) -> None:
        self._publisher = publisher
        self._waiters = waiters

    async def submit(self, command: Command, *, wait_s: float, left_s: float) -> Outcome | None:
        """The outcome, or None when `wait_s` ran out but the broker has the command for certain.

        `left_s` is the time in which the call must be answered. Raises CallError: UNAVAILABLE when the broker did not
        confirm the command, RESOURCE_EXHAUSTED when there is no room for it, or the command's own refusal.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        outcome = self._waiters.add(command)
        try:
            await self._say(command, outcome, give_up_at=begin + min(left_s, SAY_TIMEOUT_S))
            if not outcome.done():
                wait_until = begin + min(wait_s, left_s)
                await asyncio.wait((outcome,), timeout=max(0.0, wait_until - loop.time()))
        finally:
            self._waiters.remove(command, outcome)
        if not outcome.done() or outcome.cancelled():
            return None
        decided = outcome.result()
        if decided.refuse_reason:
            raise _refusal(decided.refuse_reason)
        return decided

    def say_again(self) -> None:
        """Outcomes may have been missed: says once more whatever calls wait for, to be told again."""
        for command in self._waiters.commands():
            _said_again.inc()
            self._publish(command)

    async def _say(self, command: Command, outcome: _Waiter, *, give_up_at: float) -> None:
        """Returns when the broker confirmed the command or its outcome is here."""
        loop = asyncio.get_running_loop()
        ceiling_s = BACKOFF_FIRST_S
        while not await self._said(command, outcome, timeout_s=give_up_at - loop.time()):
            backoff_s = random.uniform(0, ceiling_s)  # noqa: S311 # jitter
            ceiling_s = min(ceiling_s * 2, BACKOFF_MAX_S)
            await asyncio.wait((outcome,), timeout=min(backoff_s, give_up_at - loop.time()))
            if _is_here(outcome):
                return
            _said_again.inc()

    async def _said(self, command: Command, outcome: _Waiter, *, timeout_s: float) -> bool:
        """Says the command once; False when it is worth saying again."""
        confirm = self._publish(command)
        try:
            await asyncio.wait((confirm, outcome), timeout=max(0.0, timeout_s), return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Keeps it back if nobody waits for it any more and it has not left yet.
            confirm.cancel()
        if confirm.cancelled():
            if _is_here(outcome):
                return True
            raise _not_confirmed()
        match confirm.exception():
            case None:
                return True
            case Rejected() | Overloaded():
                raise overloaded(
                    "OVERLOADED", "too many commands are waiting; send the same request again later", RETRY_AFTER_S
                )
            case _:
                return False

    def _publish(self, command: Command) -> "asyncio.Future[None]":
        return self._publisher.publish(command.routing_key, command.message_id, command.envelope, shard=command.shard)


def _is_here(outcome: _Waiter) -> bool:
    """Whether the outcome has come; raises CallError when the gateway stops before anything is certain."""
    if outcome.cancelled():
        raise _not_confirmed()
    return outcome.done()


def _not_confirmed() -> CallError:
    return unavailable(
        "BROKER_UNAVAILABLE",
        "the command was not confirmed in time and its outcome is unknown; send the same request again, with the same "
        "request_id",
    )


def _refusal(reason: str) -> CallError:
    code, message = _REFUSALS.get(reason, _UNKNOWN_REFUSAL)
    return CallError(code, reason, message)
