"""Services, messages and servers that are gone or broken are told of, and so is that they are mended."""

import asyncio
from typing import Final

import grpc
import pytest

from deploy.services import FRONTEND, NAMES
from tests.chassis.broker import running
from tests.e2e.house import House
from tests.e2e.office import Reservation, Sale, new_id, refusal
from tests.e2e.wire import say, say_bytes
from tests.observability.alarms.harm import DEADLINE_S, all_is_quiet, fires
from tests.observability.prometheus import Prometheus
from tests.ops.desk import Desk
from ticketrush.messages.v1 import messages_pb2 as messages

RESERVE: Final = "ticket.reservation.requested"
MORE_THAN_MAY_WAIT: Final = 1_100
PAY: Final = "ticket.payments.requested"
COUNT: Final = "UPDATE reservations.event_count SET held = held + %s WHERE event_id = %s AND slot = 0"
pytestmark = pytest.mark.timeout(3 * DEADLINE_S)


async def test_poison_a_silent_provider_and_a_broken_invariant_are_told_until_they_are_mended(
    house: House, prometheus: Prometheus
) -> None:
    sale = await house.office.put_on_sale(2)
    held = await house.office.held(sale, "ada", sale.tickets[:1])
    await all_is_quiet(prometheus)

    await house.kill("provider")
    await house.office.pay(held, wait_s=0)
    await house.rows(COUNT, 1, sale.event_id)
    async with house.broker() as channel:
        await say_bytes(channel, PAY, b"poison")
    await fires(prometheus, "MessageParked", "ServiceDown", "ProviderSilent", "InvariantBroken")

    await house.up("provider")
    await house.rows(COUNT, -1, sale.event_id)
    desk = Desk(house.stack.env).without("DATABASE_URL", "AMQP_URL")
    assert (await desk.change("parked", "discard", "--queue", "payments.charges")).code == 0
    await all_is_quiet(prometheus)


async def test_a_consumer_and_a_sweep_that_stop_are_told_until_they_go_on(house: House, prometheus: Prometheus) -> None:
    sale = await house.office.put_on_sale()
    await all_is_quiet(prometheus)

    await house.kill("reservations", "scheduler")
    command = messages.Envelope(message_id=new_id(), reserve_tickets=reserve_tickets(sale))
    command.occur_time.GetCurrentTime()
    async with house.broker() as channel:
        # The same one, so that there is one thing to do about them all.
        await asyncio.gather(*(say(channel, RESERVE, command) for _ in range(MORE_THAN_MAY_WAIT)))
    await fires(prometheus, "ConsumerStopped", "QueueGrows", "SweepStopped", "ServiceDown")

    await house.up("reservations", "scheduler", FRONTEND.name)
    await all_is_quiet(prometheus)


async def test_a_broker_that_is_gone_is_told_until_it_is_back(house: House, prometheus: Prometheus) -> None:
    sale = await house.office.put_on_sale(2)
    bought = await house.office.buy(sale, "ada")
    await all_is_quiet(prometheus)

    await house.kill("rabbitmq")
    # It is committed, and cannot be told.
    await house.office.refund(bought)

    async def buyers_go_on_asking() -> None:
        while True:
            refused = await refusal(house.office.reserve(sale, "bob", sale.tickets[1:]))
            assert refused.code == grpc.StatusCode.UNAVAILABLE

    async with running(buyers_go_on_asking()):
        await fires(prometheus, "BrokerAway", "ServiceNotServing", "OutboxOld", "CallersGetUnavailable")

    await house.up(*NAMES)
    await house.office.becomes(bought, Reservation.STATE_CANCELLED)
    await all_is_quiet(prometheus)


async def test_a_database_that_is_gone_is_told_until_it_is_back(house: House, prometheus: Prometheus) -> None:
    await all_is_quiet(prometheus)
    await house.kill("postgres")
    await fires(prometheus, "DatabaseAway", "ServiceNotServing", "JobFails")
    await house.up(*NAMES)
    await all_is_quiet(prometheus)


def reserve_tickets(sale: Sale) -> messages.ReserveTickets:
    """As a gateway would say it."""
    return messages.ReserveTickets(
        reservation_id=new_id(), request_id=new_id(), event_id=sale.event_id, buyer_id="ada", ticket_ids=sale.tickets
    )
