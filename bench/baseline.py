"""`python -m bench.baseline`: what a good engineer would build instead, to be measured beside TicketRush.

One process of grpc.aio that answers Reserve with one SQL round trip, in one transaction, idempotent, on the same
tables; several may share a port. No broker, no batches. DATABASE_URL and LISTEN_ADDRESS are in the environment.
"""

import os
from typing import Any, Final
from uuid import UUID

import grpc
import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from psycopg_pool import AsyncConnectionPool

from bench.scenarios import SCHEMA
from bench.serving import serve
from contract import ids
from ticketrush.v1 import ticketing_pb2 as pb

CONNECTIONS: Final = 16
_SQL: Final = "SELECT * FROM bench_reserve(%s, %s, %s, %s, %s, %s, %s, %s)"


class Baseline:
    """Reserve, and nothing else."""

    def __init__(self, pool: "AsyncConnectionPool[Any]") -> None:
        self._pool = pool

    async def reserve(self, request: pb.ReserveRequest, _: object) -> pb.ReserveResponse:
        event_id = UUID(request.event_id)
        reservation_id = ids.reservation_id(event_id, request.buyer_id, request.request_id)
        body = request.SerializeToString(deterministic=True)
        command_id = ids.command_id(reservation_id, "Reserve", request.buyer_id, body.hex())
        best = request.best_available
        async with self._pool.connection() as conn:
            cursor = await conn.execute(
                _SQL,
                (
                    reservation_id,
                    command_id,
                    event_id,
                    request.buyer_id,
                    UUID(request.request_id),
                    sorted(map(UUID, request.ticket_ids)),
                    best.section,
                    best.quantity,
                ),
            )
            [(state, reject_reason, ticket_ids, prices, expire_time)] = await cursor.fetchall()
        reservation = pb.Reservation(
            reservation_id=str(reservation_id),
            event_id=request.event_id,
            buyer_id=request.buyer_id,
            state=pb.Reservation.State.Value(f"STATE_{state}"),
            reject_reason=reject_reason,
            tickets=[
                pb.Ticket(ticket_id=str(ticket_id), price_minor=price)
                for ticket_id, price in zip(ticket_ids or (), prices or (), strict=True)
            ],
        )
        expires = Timestamp()
        expires.FromDatetime(expire_time)
        reservation.expire_time.CopyFrom(expires)
        return pb.ReserveResponse(reservation=reservation)


async def main() -> None:
    """Serves until SIGTERM."""
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        os.environ["DATABASE_URL"],
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
        open=False,
        kwargs={"autocommit": True, "options": SCHEMA},
    )
    async with pool:
        await pool.wait()
        await serve(
            grpc.unary_unary_rpc_method_handler(
                Baseline(pool).reserve,
                request_deserializer=pb.ReserveRequest.FromString,
                response_serializer=pb.ReserveResponse.SerializeToString,
            )
        )


if __name__ == "__main__":
    uvloop.run(main())
