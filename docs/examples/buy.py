"""Buys two tickets over gRPC, as a service of yours would: python docs/examples/buy.py EVENT_ID SECTION

Takes GATEWAY_ADDRESS and BUYER_TOKEN (or OPERATOR_TOKEN) from the environment: `set -a; . .run/stack.env`.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration

from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceAsyncStub

BUYER = "ada"
CARD = "pm_card_ok"
WAIT = Duration(seconds=5)
TIMEOUT_S = 20
ATTEMPTS = 10
"""To ask again while nothing is decided: a little under a minute."""
# gRPC sends again what was refused or lost, by itself: with the same request_id, so that nothing happens twice.
RETRIES = ("grpc.service_config", (Path(__file__).parent / "retry_policy.json").read_text())


async def main(event_id: str, section: str) -> None:
    metadata = (("authorization", f"Bearer {os.environ.get('BUYER_TOKEN') or os.environ['OPERATOR_TOKEN']}"),)
    hold = pb.ReserveRequest(request_id=str(uuid4()), event_id=event_id, buyer_id=BUYER, wait=WAIT)
    hold.best_available.section, hold.best_available.quantity = section, 2
    async with grpc.aio.insecure_channel(os.environ["GATEWAY_ADDRESS"], options=[RETRIES]) as channel:
        ticketing: TicketingServiceAsyncStub = TicketingServiceStub(channel)
        for _ in range(ATTEMPTS):
            held = (await ticketing.Reserve(hold, timeout=TIMEOUT_S, metadata=metadata)).reservation
            if held.state != pb.Reservation.STATE_PENDING:
                break  # else not decided within the wait, and the certain way to ask is the same request again
        if held.state != pb.Reservation.STATE_HELD:
            sys.exit(f"no tickets: {pb.Reservation.State.Name(held.state)} {held.reject_reason}")
        pay = pb.PayRequest(
            request_id=str(uuid4()),
            buyer_id=BUYER,
            reservation_id=held.reservation_id,
            payment_method=CARD,
            wait=WAIT,
        )
        for _ in range(ATTEMPTS):
            paid = await ticketing.Pay(pay, timeout=TIMEOUT_S, metadata=metadata)
            if paid.payment.state != pb.Payment.STATE_PENDING:
                break
    if paid.reservation.state != pb.Reservation.STATE_CONFIRMED:
        sys.exit(f"not paid: {pb.Payment.State.Name(paid.payment.state)} {paid.payment.decline_reason}")
    seats = ", ".join(f"{one.section} {one.row}/{one.seat}" for one in paid.reservation.tickets)
    sys.stdout.write(f"bought {seats}\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
