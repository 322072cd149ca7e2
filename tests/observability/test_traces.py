"""A purchase by HTTP is one connected tree of spans, from the request to the outcome that answered it."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from deploy.services import FRONTEND
from deploy.stack import Stack
from tests.conftest import database_like
from tests.e2e.house import SERVICES, House, beside, furnished
from tests.e2e.office import Sale, eventually, new_id
from tests.e2e.wire import say
from tests.gateway.vhosts import vhost
from tests.observability.otlp import Receiver, Tree, receiving
from ticketrush.messages.v1 import messages_pb2 as messages

RESERVE: Final = "gateway: ticketrush.v1.TicketingService/Reserve"
PAY: Final = "gateway: ticketrush.v1.TicketingService/Pay"
FRONT_RESERVE: Final = "frontend: POST /v1/reservations"
FRONT_PAY: Final = "frontend: POST /v1/reservations/{reservation_id}:pay"
COMMAND: Final = "ticket.reservation.requested"
ANSWER_TIMEOUT_S: Final = 60


@dataclass
class Seen:
    """A house at work, and what it tells of itself."""

    house: House
    receiver: Receiver
    visitor: httpx.AsyncClient

    async def post_with(self, headers: dict[str, str], path: str, **body: Any) -> dict[str, Any]:
        """What the call answers."""
        answer = await self.visitor.post(path, json={"request_id": new_id(), **body}, headers=headers)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def newest(self, hop: str, *hops: str) -> Tree:
        """The trace through the hop that came last, once it has these, too."""
        wanted = {hop, *hops}
        found: list[Tree] = []

        async def has_come() -> bool:
            found[:] = [self.receiver.tree(one) for one in self.receiver.traces(hop)[-1:]]
            return any(wanted <= {span.hop for span in tree.spans} and len(tree.roots) == 1 for tree in found)

        await eventually(has_come, lambda: f"of {sorted(wanted)} there is:\n" + "\n".join(map(str, found)))
        return found[0]


@pytest.fixture(scope="module")
async def seen(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    async with receiving() as (receiver, url):
        told = {name: {"OTLP_ENDPOINT": url, "TRACE_RATIO": "1"} for name in (*SERVICES, FRONTEND.name)}
        with database_like(stack.env["DATABASE_URL"], template) as database_url, vhost(stack, "traced") as amqp_url:
            run_dir = tmp_path_factory.mktemp("traced")
            own = beside(stack, run_dir, database_url=database_url, amqp_url=amqp_url, settings=told)
            async with furnished(own, told.keys()) as house:
                base = f"http://{own.address(FRONTEND.name)}"
                bearing = {"Authorization": f"Bearer {own.operator_token}"}
                async with httpx.AsyncClient(
                    base_url=base, headers=bearing, timeout=ANSWER_TIMEOUT_S, trust_env=False
                ) as visitor:
                    yield Seen(house, receiver, visitor)


@pytest.fixture
async def sale(seen: Seen) -> Sale:
    return await seen.house.office.put_on_sale(4)


async def held(seen: Seen, sale: Sale, number: int, **headers: str) -> str:
    """A reservation made by HTTP."""
    answer = await seen.post_with(
        headers, "/v1/reservations", event_id=sale.event_id, buyer_id="ada", ticket_ids=[sale.tickets[number]]
    )
    assert answer["reservation"]["state"] == "STATE_HELD", answer
    return str(answer["reservation"]["reservation_id"])


async def paid(seen: Seen, reservation_id: str, *, card: str = "pm_card_ok", **headers: str) -> None:
    """It is paid by HTTP."""
    answer = await seen.post_with(
        headers, f"/v1/reservations/{reservation_id}:pay", buyer_id="ada", payment_method=card, wait="25s"
    )
    assert answer["reservation"]["state"] == "STATE_CONFIRMED", answer


def connected(tree: Tree, root: str) -> None:
    """All of it hangs on this one root."""
    assert [span.hop for span in tree.roots] == [root], str(tree)
    assert not tree.roots[0].sent.parent_span_id


async def test_a_reserve_is_one_tree_from_the_request_to_its_outcome(seen: Seen, sale: Sale) -> None:
    await held(seen, sale, 0)
    taken = "reservations: reservations.commands process"
    tree = await seen.newest(
        FRONT_RESERVE, RESERVE, taken, "gateway: outcome", f"gateway: {COMMAND} publish",
        "reservations: ticket.reserved publish", "reservations: database transaction",
    )  # fmt: skip
    connected(tree, FRONT_RESERVE)
    assert tree.way_to("gateway: outcome") == [FRONT_RESERVE, RESERVE, taken, "gateway: outcome"]
    assert tree.way_to("reservations: database transaction")[-2] == taken


async def test_a_pay_is_one_tree_through_the_card_processor_and_the_outbox(seen: Seen, sale: Sale) -> None:
    await paid(seen, await held(seen, sale, 0))
    begun, charged, recorded, applied = (
        "payments: payments.charges process",
        "payments: charge",
        "payments: record charges",
        "reservations: reservations.money process",
    )
    opened = "ticketrush.reservations.v1.ReservationsService/OpenPayments"
    provided = "ticketrush.provider.v1.PaymentProviderService/Charge"
    tree = await seen.newest(
        FRONT_PAY, PAY, begun, charged, recorded, applied, "gateway: outcome",
        "gateway: ticket.payments.requested publish",
        "payments: ticket.payments.approved publish", "reservations: ticket.sold publish",
        f"reservations: {opened}", f"provider: {provided}",
    )  # fmt: skip
    connected(tree, FRONT_PAY)
    money = [FRONT_PAY, PAY, begun, charged]
    assert tree.way_to("gateway: outcome") == [*money, recorded, applied, "gateway: outcome"]
    assert tree.way_to(f"provider: {provided}") == [*money, f"payments: {provided}", f"provider: {provided}"]
    assert tree.way_to(f"reservations: {opened}")[:3] == [FRONT_PAY, PAY, begun]
    assert tree.way_to("reservations: ticket.sold publish")[-2] == applied


async def test_a_purchase_goes_on_in_the_trace_of_whoever_asks(seen: Seen, sale: Sale) -> None:
    trace_id, parent = secrets.token_hex(16), secrets.token_hex(8)
    own = {"traceparent": f"00-{trace_id}-{parent}-01"}
    await paid(seen, await held(seen, sale, 0, **own), **own)

    def is_whole(tree: Tree) -> bool:
        return {span.hop for span in tree.roots} == {FRONT_RESERVE, FRONT_PAY} and len(tree.spans) > 10

    tree = await seen.receiver.whole(trace_id, is_whole)
    assert {span.sent.parent_span_id.hex() for span in tree.roots} == {parent}


async def test_those_that_meet_in_one_transaction_are_linked(seen: Seen, sale: Sale) -> None:
    """Two commands of two traces, in one message: neither trace is lost, and each leads to the other."""
    traces = [secrets.token_hex(16) for _ in range(2)]
    commands = []
    for number, trace_id in enumerate(traces):
        command = messages.ReserveTickets(
            reservation_id=new_id(), request_id=new_id(), event_id=sale.event_id, buyer_id=f"buyer-{number}",
            ticket_ids=[sale.tickets[number]],
        )  # fmt: skip
        envelope = messages.Envelope(
            message_id=new_id(), subject_id=command.reservation_id, reserve_tickets=command,
            traceparent=f"00-{trace_id}-{secrets.token_hex(8)}-01",
        )  # fmt: skip
        envelope.occur_time.GetCurrentTime()
        commands.append(envelope)
    async with seen.house.broker() as channel:
        await say(channel, COMMAND, *commands)
    taken, told = "reservations: reservations.commands process", "reservations: ticket.reserved publish"

    def is_whole(tree: Tree) -> bool:
        return {taken, told} <= {span.hop for span in tree.spans}

    trees = [await seen.receiver.whole(trace_id, is_whole) for trace_id in traces]
    met = [next(span for span in tree.spans if span.hop == taken) for tree in trees]
    assert [[link.trace_id.hex() for link in span.sent.links] for span in met] == [[traces[1]], [traces[0]]]
    assert [span.attribute("messaging.batch.message_count") for span in met] == [2, 2]
    # What each caused is told in its own trace.
    assert [tree.way_to(told) for tree in trees] == [[taken, told]] * 2


async def test_a_span_of_a_call_says_its_request_id(seen: Seen, sale: Sale) -> None:
    request_id = new_id()
    await seen.house.office.reserve(sale, "ada", request_id=request_id)
    tree = await seen.newest(RESERVE)
    [called] = [span for span in tree.spans if span.hop == RESERVE]
    assert called.attribute("ticketrush.request_id") == request_id


async def test_a_charge_that_is_tried_again_stays_in_its_trace(seen: Seen, sale: Sale) -> None:
    """The second try finds its payment in the table, and the trace in history."""
    await paid(seen, await held(seen, sale, 0), card="pm_card_flaky")
    tree = await seen.newest(FRONT_PAY, "payments: charge", "gateway: outcome", "reservations: ticket.sold publish")
    connected(tree, FRONT_PAY)
    assert len([span for span in tree.spans if span.hop == "payments: charge"]) > 1


async def test_a_refund_is_one_tree_to_the_card_processor_and_back(seen: Seen, sale: Sale) -> None:
    await seen.house.office.refund(await seen.house.office.buy(sale, "ada"))
    asked = "gateway: ticketrush.v1.TicketingService/RefundReservation"
    given_back = "provider: ticketrush.provider.v1.PaymentProviderService/Refund"
    tree = await seen.newest(asked, given_back, "reservations: ticket.reservation.updated publish")
    connected(tree, asked)
    way = tree.way_to(given_back)
    assert way[0] == asked
    assert way[-4:-2] == ["payments: payments.refunds process", "payments: refund"]
