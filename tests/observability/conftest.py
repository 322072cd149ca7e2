"""The whole product behind its HTTP front, with something of each kind to be counted."""

from collections.abc import AsyncIterator

import grpc
import httpx
import pytest

from deploy.services import FRONTEND
from deploy.stack import Stack
from tests.conftest import database_like
from tests.e2e.house import SERVICES, House, beside, furnished
from tests.e2e.office import Office, Reservation, new_id, refusal
from tests.gateway.vhosts import vhost
from ticketrush.v1 import ticketing_pb2 as pb


@pytest.fixture(scope="session")
async def house(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    with database_like(stack.env["DATABASE_URL"], template) as database_url, vhost(stack, "seen") as amqp_url:
        own = beside(stack, tmp_path_factory.mktemp("seen"), database_url=database_url, amqp_url=amqp_url)
        async with furnished(own, (*SERVICES, FRONTEND.name)) as house:
            await _live(house.office)
            async with httpx.AsyncClient(base_url=f"http://{own.address(FRONTEND.name)}", trust_env=False) as visitor:
                assert (await visitor.get("/v1/events")).is_success
            yield house


async def _live(office: Office) -> None:
    """A seat is sold, one taken back, one refused to somebody; and somebody asks for what there is not."""
    sale = await office.put_on_sale(2)
    await office.buy(sale, "ada", sale.tickets[:1])
    assert (await office.reserve(sale, "bob", sale.tickets[:1])).state == Reservation.STATE_REJECTED
    assert (await office.refund(await office.buy(sale, "eve", sale.tickets[1:]))).state == Reservation.STATE_CANCELLED
    unknown = office.ticketing.GetReservation(pb.GetReservationRequest(reservation_id=new_id()))
    assert (await refusal(unknown)).code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}
