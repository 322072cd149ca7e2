"""What each move of the model is in the real system: the same names, the real handlers."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

from chassis.consumer import Failure
from contract import reasons
from payments import processor, store
from payments.domain import ChargeResult, Payment, Refunded
from payments.openings import open_payments
from tests.proof.twin import Twin
from tests.reservations.sayings import cancel, claim
from ticketrush.messages.v1 import messages_pb2 as messages


async def move(twin: Twin, name: str) -> None:
    """Does what the model calls by that name. Nothing may fail."""
    for pattern, act in _MOVES.items():
        if found := re.fullmatch(pattern, name):
            await act(twin, **_typed(found.groupdict()))
            return
    raise AssertionError(f"what is the move {name!r}?")


async def in_vain(twin: Twin, index: int, letter: str) -> None:
    """A message arrives of which nothing comes: too early, too late or again. It may be refused."""
    for failure in await _deliver(twin, index, letter):
        assert not isinstance(failure.error, AssertionError)


async def reserve(twin: Twin, index: int) -> None:
    """Also as a repeat."""
    assert await twin.reserve([twin.commands[index]]) == []


async def pay(twin: Twin, index: int) -> None:
    """Also as a repeat, of which a fact said again may come."""
    assert await twin.handlers.request_payments([twin.payments[index]]) == []


async def _expire(twin: Twin, index: int) -> None:
    async with twin.databases.reservations.transaction() as conn:
        await conn.execute(
            "UPDATE reservation SET release_time = clock_timestamp() - interval '1 s' WHERE reservation_id = %s",
            (twin.commands[index].subject_id,),
        )
    await twin.sweeps.expire_due()


async def _cancel(twin: Twin, index: int) -> None:
    command = cancel(twin.commands[index].subject_id, buyer_id=f"buyer-{index}")
    assert await twin.settle.cancel_reservation([command]) == []


async def _take_back(twin: Twin, index: int) -> None:
    reservation_id = twin.commands[index].subject_id
    await twin.refunds.refund(UUID(reservation_id), claim(reservation_id))


async def _open(twin: Twin, index: int, lost: str | None = None) -> None:
    twin.doorway.reply_is_lost = bool(lost)
    [(payment, result)] = await open_payments(twin.peers, [await _payment(twin, index)])
    if result is None:
        twin.opened[index] = payment
    else:
        await _record(twin, payment, result)


async def _call(twin: Twin, index: int) -> None:
    twin.calling.add(index)


async def _charge(twin: Twin, index: int, charge: str, lost: str | None) -> None:
    """The call that was in the network arrives; payments may have decided since."""
    twin.calling.remove(index)
    twin.processor.declines = charge == "D"
    twin.processor.reply_is_lost = bool(lost)
    payment = twin.opened[index]
    await _record(twin, payment, await processor.charge(twin.peers, payment))


async def _give_up(twin: Twin, index: int, lost: str | None = None) -> None:
    twin.processor.reply_is_lost = bool(lost)
    payment = twin.opened[index]
    await _record(twin, payment, await processor.give_up(twin.peers, payment, reasons.PROVIDER_UNAVAILABLE))


async def _record(twin: Twin, payment: Payment, result: ChargeResult) -> None:
    await twin.charger._write([(payment, result)])


async def _refund(twin: Twin, index: int, lost: str | None) -> None:
    twin.processor.reply_is_lost = bool(lost)
    payment = await _payment(twin, index)
    result = await processor.refund(twin.peers, payment)
    assert isinstance(result, Refunded) or lost, result
    await twin.refunder._write([(payment, result)])


async def _arrives(twin: Twin, index: int, letter: str) -> None:
    assert await _deliver(twin, index, letter) == []


async def _deliver(twin: Twin, index: int, letter: str) -> list[Failure]:
    handlers: dict[str, Callable[[list[messages.Envelope]], Awaitable[Any]]] = {
        "A": twin.settle.payment_approved,
        "J": twin.settle.payment_rejected,
        "Q": twin.handlers.request_refunds,
        "F": twin.settle.refund_completed,
    }
    return list(await handlers[letter]([twin.wire.messages[twin.payments[index].subject_id, letter]]))


async def _say_again(twin: Twin, index: int, letter: str) -> None:
    """The reconcilers find nothing due but this."""
    payment_id = UUID(twin.payments[index].subject_id)
    async with twin.databases.reservations.transaction() as conn:
        await conn.execute(
            """UPDATE credit SET reconcile_time = clock_timestamp()
                   + CASE WHEN payment_id = %s THEN interval '-1 s' ELSE interval '1 h' END
               WHERE state IN ('OPEN', 'REFUND_DUE')""",
            (payment_id,),
        )
    if letter == "Q":
        assert await twin.sweeps.ask_for_refunds_again() == 1
    else:
        assert await twin.sweeps.open_credits() == [payment_id]
        await twin.handlers.say_again([payment_id])


async def _lose(twin: Twin, index: int, letter: str) -> None:
    del twin.wire.messages[twin.payments[index].subject_id, letter]


async def _payment(twin: Twin, index: int) -> Payment:
    async with twin.databases.payments.transaction() as conn:
        [payment] = await store.find(conn, [UUID(twin.payments[index].subject_id)])
    return payment


def _typed(groups: dict[str, str | None]) -> dict[str, Any]:
    return groups | {"index": int(groups["index"] or 0)}


_INDEX: Final = r"(?P<index>\d)"
_LETTER: Final = r"(?P<letter>[AJQF])"
_LOST: Final = r"(?P<lost>, reply lost)"
_MOVES: Final[dict[str, Callable[..., Awaitable[None]]]] = {
    rf"reserve {_INDEX}": reserve,
    rf"expire {_INDEX}": _expire,
    rf"buyer {_INDEX} cancels": _cancel,
    rf"organiser refunds {_INDEX}": _take_back,
    rf"pay {_INDEX}": pay,
    rf"opening {_INDEX} refused": _open,
    rf"open {_INDEX}{_LOST}?": _open,
    rf"call charge {_INDEX}": _call,
    rf"charge {_INDEX}: (?P<charge>[CDTF]){_LOST}?": _charge,
    rf"give up {_INDEX}": _give_up,
    rf"cancel charge {_INDEX}{_LOST}": _give_up,
    rf"refund {_INDEX}{_LOST}?": _refund,
    rf"{_LETTER}{_INDEX} arrives( again)?": _arrives,
    rf"say {_LETTER}{_INDEX} again": _say_again,
    rf"{_LETTER}{_INDEX} is lost": _lose,
}
