"""A refund that cannot be made is set aside once, however often reservations asks for it again."""

from chassis.attempts import Poison
from chassis.parking import ParkedMessage, Parking
from contract import keys
from payments.domain import RefundTooEarly
from tests.payments.system import System, pay_command, refund_command
from ticketrush.messages.v1 import messages_pb2 as pb


def parked(command: pb.Envelope) -> ParkedMessage:
    """The command as it is set aside."""
    return ParkedMessage(
        message_id=command.message_id,
        queue=keys.PAYMENT_REFUNDS.name,
        routing_key=keys.REFUND_REQUESTED,
        kind="request_refund",
        subject_id=command.subject_id,
        content_type="application/x-protobuf",
        body=command.SerializeToString(),
        reason="ATTEMPTS_EXHAUSTED",
        detail="",
        attempts=4,
    )


async def test_a_refund_asked_for_again_while_it_is_parked_does_not_fail_again(system: System) -> None:
    command, other = refund_command(pay_command()), refund_command(pay_command())
    await Parking(system.database).park([parked(command)])
    # Said again it is the same message, with a time of its own.
    command.occur_time.GetCurrentTime()
    [failure] = await system.request_refund(command, other)
    assert failure.envelope.message_id == other.message_id


async def test_another_flaw_about_the_same_payment_is_set_aside_too(system: System) -> None:
    command = refund_command(pay_command())
    await Parking(system.database).park([parked(command)])
    flawed = pb.Envelope()
    flawed.CopyFrom(command)
    flawed.message_id = "another message"
    [failure] = await system.request_refund(flawed)
    assert isinstance(failure.error, Poison)


async def test_a_parked_refund_that_a_person_sends_again_may_fail_again(system: System) -> None:
    command = refund_command(pay_command())
    await Parking(system.database).park([parked(command)])
    await system.rows("UPDATE parked_message SET redrive_time = now()")
    [failure] = await system.request_refund(command)
    assert isinstance(failure.error, RefundTooEarly)


async def test_whoever_sends_a_parked_message_again_is_told_when_it_comes_back(system: System) -> None:
    parking, message = Parking(system.database), parked(refund_command(pay_command()))
    await parking.park([message])
    await system.rows("UPDATE parked_message SET redrive_time = now()")
    await parking.park([message])
    assert await system.rows("SELECT state, redrive_time FROM parked_message") == [
        {"state": "PARKED", "redrive_time": None}
    ]
