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
_Confirm = asyncio.Future[None]


class Submission:
    """Says commands and waits for what becomes of them."""

    def __init__(self, publisher: Publisher, waiters: Waiters) -> None:
        self._publisher = publisher
        self._waiters = waiters
        self._reply_to = ""

    async def submit(self, command: Command, *, wait_s: float, left_s: float) -> Outcome | None:
        """The outcome, or None when `wait_s` ran out but the broker has the command for certain.

        `left_s` is the time in which the call must be answered. Raises CallError: UNAVAILABLE when the broker did not
        confirm the command, RESOURCE_EXHAUSTED when there is no room for it, or the command's own refusal.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        outcome = self._waiters.add(command)
        try:
            confirm = self._publish(command)
            # Nearly always the outcome comes in this time, and a confirm before it is not worth waking up for.
            await _outcome_or_failure(outcome, confirm, timeout_s=min(wait_s, left_s, SAY_TIMEOUT_S))
            await self._say(command, outcome, confirm, give_up_at=begin + min(left_s, SAY_TIMEOUT_S))
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

    def answer_at(self, queue: str) -> None:
        """Outcomes are to come to this queue from now on; those for an earlier one may have been missed.

        Says once more whatever calls wait for, to be told again.
        """
        self._reply_to = queue
        for command in self._waiters.commands():
            _said_again.inc()
            self._publish(command)

    async def _say(self, command: Command, outcome: _Waiter, confirm: _Confirm, *, give_up_at: float) -> None:
        """Returns when the broker confirmed the command or its outcome is here."""
        loop = asyncio.get_running_loop()
        ceiling_s = BACKOFF_FIRST_S
        while not await self._said(confirm, outcome, timeout_s=give_up_at - loop.time()):
            backoff_s = random.uniform(0, ceiling_s)  # noqa: S311 # jitter
            ceiling_s = min(ceiling_s * 2, BACKOFF_MAX_S)
            await asyncio.wait((outcome,), timeout=min(backoff_s, give_up_at - loop.time()))
            if _is_here(outcome):
                return
            _said_again.inc()
            confirm = self._publish(command)

    async def _said(self, confirm: _Confirm, outcome: _Waiter, *, timeout_s: float) -> bool:
        """Whether a command that was published has been taken; False when it is worth saying again."""
        try:
            if not confirm.done() and not outcome.done():
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

    def _publish(self, command: Command) -> _Confirm:
        command.envelope.reply_to = self._reply_to
        envelope = command.envelope.SerializeToString()
        return self._publisher.publish(command.routing_key, command.message_id, envelope, shard=command.shard)


async def _outcome_or_failure(outcome: _Waiter, confirm: _Confirm, *, timeout_s: float) -> None:
    """Returns when the outcome is here, the command was not confirmed, or the time is over.

    Does for half the work what `asyncio.wait` does for two: every call comes through here.
    """
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    def confirmed(confirm: _Confirm) -> None:
        if confirm.cancelled() or confirm.exception():
            wake()

    outcome.add_done_callback(wake)
    confirm.add_done_callback(confirmed)
    timer = loop.call_later(timeout_s, wake)
    try:
        await woken
    except asyncio.CancelledError:
        # Keeps the command back if it has not left yet.
        confirm.cancel()
        raise
    finally:
        timer.cancel()
        outcome.remove_done_callback(wake)
        confirm.remove_done_callback(confirmed)


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
