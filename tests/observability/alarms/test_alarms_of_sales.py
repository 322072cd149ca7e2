"""What goes wrong for buyers while every service is there is told of, and so is that it is mended."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import grpc
import psycopg
import pytest

from chaos.faults import MEMORY_LIMIT_BYTES, limit_memory
from chassis.bearer import bearing
from deploy.issuer import token as signed
from tests.chassis.broker import running
from tests.e2e.house import House, connected
from tests.e2e.office import Office, Reservation, refusal
from tests.observability.alarms.harm import DEADLINE_S, all_is_quiet, fires
from tests.observability.prometheus import Prometheus
from tests.ops.desk import Desk
from ticketrush.v1 import ticketing_pb2 as pb

HOLD_S: Final = 3
TOKEN_S: Final = 3_600
REFUND_INTERVAL_S: Final = 4.0
REFUNDS: Final = 60
STALLED: Final = 100
SEATS: Final = 5_000
SMALL_WINDOW: Final = (("grpc.http2.bdp_probe", 0), ("grpc.enable_http_proxy", 0))
pytestmark = pytest.mark.timeout(4 * DEADLINE_S)


async def test_seats_that_nobody_gets_at_are_told_until_they_are_free(house: House, prometheus: Prometheus) -> None:
    office = house.office
    sale = await office.put_on_sale(2, hold_s=HOLD_S)
    await all_is_quiet(prometheus)

    async def buyers_go_on_asking() -> None:
        while True:
            # It is decided later than they wait.
            await office.reserve(sale, "bob", sale.tickets[1:], wait_s=2)

    held = await office.held(sale, "ada")
    async with house.database() as conn, conn.transaction():
        # Somebody's forgotten transaction: tables can be read, and nothing in them changed.
        await conn.execute("LOCK TABLE reservations.reservation IN EXCLUSIVE MODE")
        async with running(buyers_go_on_asking()):
            await fires(prometheus, "HoldsNotReleased", "CallsSlow")

    await office.becomes(held, Reservation.STATE_EXPIRED)
    await all_is_quiet(prometheus)


async def test_servers_that_are_full_are_told_until_they_have_room(house: House, prometheus: Prometheus) -> None:
    await all_is_quiet(prometheus)
    url, broker = house.stack.env["DATABASE_URL"], house.stack.pid("rabbitmq")
    [(connections_max,)] = await house.rows("SHOW max_connections")

    async with AsyncExitStack() as connections:
        await limit_memory(broker, 1)
        try:
            while True:
                [(count,)] = await house.rows("SELECT count(*) FROM pg_stat_activity")
                if count > 0.85 * int(connections_max):
                    break
                await connections.enter_async_context(await psycopg.AsyncConnection.connect(url))
            await fires(prometheus, "BrokerAlarm", "DatabaseShortOfConnections")
        finally:
            await limit_memory(broker, MEMORY_LIMIT_BYTES)
    await all_is_quiet(prometheus)


async def test_calls_that_fail_or_are_too_many_and_streams_that_nobody_reads_are_told_until_they_end(
    house: House, prometheus: Prometheus
) -> None:
    # Each map is more than gRPC keeps for a reader who takes nothing.
    sale = await house.office.put_on_sale(SEATS)
    await all_is_quiet(prometheus)
    address = house.stack.address("gateway")
    token = signed(house.stack.issuer.key_file, "ada", ["buyer"], TOKEN_S)

    async def one_buyer_asks_without_end() -> None:
        async with connected(address, token) as line:
            while True:
                await asyncio.gather(*(Office(line).event(sale.event_id) for _ in range(50)), return_exceptions=True)

    async def a_call_fails_again_and_again() -> None:
        while True:
            refused = await refusal(house.office.call_off(sale.event_id))
            assert refused.code == grpc.StatusCode.INTERNAL
            await asyncio.sleep(0.2)

    # A migration that forgot a grant, as it were.
    await house.rows("REVOKE SELECT ON reservations.organiser_request FROM ticketrush_reservations")
    try:
        async with (
            # It takes in advance what one window holds, and no more.
            bearing(grpc.aio.insecure_channel(address, options=SMALL_WINDOW), house.stack.operator_token) as line,
            running(one_buyer_asks_without_end(), a_call_fails_again_and_again()),
        ):
            everything = pb.WatchTicketsRequest(event_id=sale.event_id)
            unread = [Office(line).ticketing.WatchTickets(everything) for _ in range(STALLED)]
            await fires(prometheus, "CallsFail", "CallsRefused", "StreamsEnded")
            assert len(unread) == STALLED
    finally:
        await house.rows("GRANT SELECT ON reservations.organiser_request TO ticketrush_reservations")
    await all_is_quiet(prometheus)


async def test_refunds_that_do_not_go_through_are_told_until_they_do(house: House, prometheus: Prometheus) -> None:
    office = house.office
    sale = await office.put_on_sale(REFUNDS)
    hopeless = await office.held(sale, "ada")
    paid = await office.pay(hopeless, card="pm_card_refund_refused")
    bought = [await office.buy(sale, "bob", [seat]) for seat in sale.tickets[1:]]
    await all_is_quiet(prometheus)

    await office.refund(hopeless)
    await fires(prometheus, "RefundRefused")

    async def others_want_their_money_back() -> None:
        for one in bought:
            await office.refund(one)
            await asyncio.sleep(REFUND_INTERVAL_S)
        await asyncio.Event().wait()

    async with house.broker() as channel:
        # Frozen, payments cannot mend at once what is broken here, and answers nobody.
        house.freeze("payments")
        try:
            await channel.queue_delete("payments.refunds.0")
            async with running(others_want_their_money_back()):
                await fires(prometheus, "MessageUnroutable", "OutcomesAskedAgain")
        finally:
            house.thaw("payments")
    await fires(prometheus, "RefundOverdue")

    desk = Desk(house.stack.env)
    settled = await desk.change("refunds", "settle", paid.payment.payment_id, reason="bank transfer 4711")
    assert settled.code == 0, settled
    await all_is_quiet(prometheus)
