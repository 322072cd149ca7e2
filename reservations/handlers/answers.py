"""Answers to the calls that wait at a gateway, sent straight to its reply queue after the commit."""

from chassis import tracing
from chassis.publisher import Publisher
from ticketrush.messages.v1.messages_pb2 import Envelope, Outcome
from ticketrush.v1 import ticketing_pb2 as pb


class Answers:
    """Sends outcomes. A lost one costs its caller a PENDING answer, nothing else."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def to(
        self,
        asked: Envelope,
        *,
        reservation: pb.Reservation | None = None,
        payment: pb.Payment | None = None,
        refuse_reason: str = "",
    ) -> None:
        """Answers a command, or a fact that says which command it answers; nothing if nobody waits."""
        if asked.reply_to:
            outcome = Envelope(
                message_id=asked.message_id,
                subject_id=asked.subject_id,
                command_id=asked.command_id or asked.message_id,
                traceparent=tracing.about(asked.subject_id),
                outcome=Outcome(reservation=reservation, payment=payment, refuse_reason=refuse_reason),
            )
            self._publisher.send_outcome(asked.reply_to, outcome.SerializeToString())
