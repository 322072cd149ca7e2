"""What payments shows over gRPC, and what it says again when reservations miss it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import grpc
import pytest
from grpc.aio import AioRpcError

from chassis.errors import from_upstream
from chassis.paging import PageTokens
from chassis.publisher import Publisher
from chassis.server import Health, build
from contract import ids, keys
from payments.servicer import PaymentsServicer, TicketingServicer
from tests.chassis.broker import channel_to, next_message
from tests.payments.fakes import FakeProvider
from tests.payments.system import System, id_of, pay_command, refund_command
from ticketrush.messages.v1 import messages_pb2
from ticketrush.payments.v1.payments_pb2 import ReconcilePaymentsRequest
from ticketrush.payments.v1.payments_pb2_grpc import PaymentsServiceStub
from ticketrush.v1.ticketing_pb2 import GetPaymentRequest, GetReservationRequest, ListPaymentsRequest, Payment
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:  # known to the type checker only
    from ticketrush.payments.v1.payments_pb2_grpc import PaymentsServiceAsyncStub
    from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceAsyncStub


@dataclass
class Client:
    ticketing: "TicketingServiceAsyncStub"
    payments: "PaymentsServiceAsyncStub"


@pytest.fixture
async def client(system: System) -> AsyncIterator[Client]:
    ticketing = TicketingServicer(system.database, PageTokens())
    payments = PaymentsServicer(system.handlers)
    server, _ = build(lambda server: [*ticketing.register(server), *payments.register(server)], Health({}))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(TicketingServiceStub(channel), PaymentsServiceStub(channel))
    await server.stop(None)


async def test_a_payment_is_shown_as_it_is(system: System, client: Client) -> None:
    command = pay_command(amount_minor=700)
    await system.pay(command)
    payment = (await client.ticketing.GetPayment(GetPaymentRequest(payment_id=id_of(command)))).payment
    assert (payment.state, payment.amount_minor, payment.currency) == (Payment.STATE_PENDING, 700, "")
    assert payment.reservation_id == command.request_payment.reservation_id
    async with system.running():
        await system.until_state(id_of(command), "APPROVED")
    payment = (await client.ticketing.GetPayment(GetPaymentRequest(payment_id=id_of(command)))).payment
    assert (payment.state, payment.amount_minor, payment.currency) == (Payment.STATE_APPROVED, 700, "EUR")
    assert payment.HasField("create_time")


async def test_an_unknown_payment_is_not_found(client: Client) -> None:
    with pytest.raises(AioRpcError) as caught:
        await client.ticketing.GetPayment(GetPaymentRequest(payment_id=str(uuid4())))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert from_upstream(caught.value).reason == "UNKNOWN_PAYMENT"


async def test_the_payments_of_a_reservation_are_listed_in_pages_the_oldest_first(
    system: System, client: Client
) -> None:
    reservation_id = uuid4()
    commands = [pay_command(reservation_id=reservation_id) for _ in range(5)]
    for command in commands:
        await system.pay(command)
    await system.pay(pay_command())
    seen: list[str] = []
    sizes: list[int] = []
    token = ""
    while True:
        request = ListPaymentsRequest(reservation_id=str(reservation_id), page_size=2, page_token=token)
        page = await client.ticketing.ListPayments(request)
        seen += [payment.payment_id for payment in page.payments]
        sizes.append(len(page.payments))
        token = page.next_page_token
        if not token:
            break
    assert seen == [id_of(command) for command in commands]
    assert sizes == [2, 2, 1]


async def test_a_page_that_ends_with_the_list_has_no_next_page(system: System, client: Client) -> None:
    reservation_id = uuid4()
    await system.pay(pay_command(reservation_id=reservation_id), pay_command(reservation_id=reservation_id))
    request = ListPaymentsRequest(reservation_id=str(reservation_id), page_size=2)
    assert (await client.ticketing.ListPayments(request)).next_page_token == ""


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("reservation_id", ListPaymentsRequest(reservation_id="x")),
        ("reservation_id", ListPaymentsRequest()),
        ("page_size", ListPaymentsRequest(reservation_id=str(uuid4()), page_size=-1)),
        ("page_token", ListPaymentsRequest(reservation_id=str(uuid4()), page_token="x")),
    ],
)
async def test_a_wrong_list_request_names_its_field(client: Client, field: str, request_: ListPaymentsRequest) -> None:
    with pytest.raises(AioRpcError) as caught:
        await client.ticketing.ListPayments(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(from_upstream(caught.value).violations) == [field]


async def test_a_page_token_of_another_reservation_is_refused(system: System, client: Client) -> None:
    one, other = uuid4(), uuid4()
    await system.pay(*(pay_command(reservation_id=one) for _ in range(2)))
    page = await client.ticketing.ListPayments(ListPaymentsRequest(reservation_id=str(one), page_size=1))
    assert page.next_page_token
    request = ListPaymentsRequest(reservation_id=str(other), page_token=page.next_page_token)
    with pytest.raises(AioRpcError) as caught:
        await client.ticketing.ListPayments(request)
    assert list(from_upstream(caught.value).violations) == ["page_token"]


async def test_what_others_own_is_unimplemented_here(client: Client) -> None:
    with pytest.raises(AioRpcError) as caught:
        await client.ticketing.GetReservation(GetReservationRequest(reservation_id=str(uuid4())))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reconciling_says_the_stored_facts_again_word_for_word(
    system: System, client: Client, provider: FakeProvider, amqp_url: str, unique: str
) -> None:
    approved, rejected, owed, refunded, pending = (pay_command() for _ in range(5))
    provider.script[id_of(rejected)].append("decline")
    async with system.running():
        await system.pay(approved, rejected, owed, refunded)
        for command in (approved, owed, refunded):
            await system.until_state(id_of(command), "APPROVED")
        await system.until_state(id_of(rejected), "REJECTED")
        await system.request_refund(refund_command(refunded))
        await system.until_state(id_of(refunded), "REFUNDED")
    await system.request_refund(refund_command(owed))
    await system.pay(pending)
    unknown = str(uuid4())
    async with channel_to(amqp_url) as channel:
        queue = await channel.declare_queue(exclusive=True)
        for key in (keys.PAYMENT_APPROVED, keys.PAYMENT_REJECTED, keys.REFUND_COMPLETED):
            await queue.bind(unique, key)
        answer = await client.payments.ReconcilePayments(
            ReconcilePaymentsRequest(
                payment_ids=[*map(id_of, (approved, rejected, owed, refunded, pending)), id_of(approved), unknown]
            )
        )
        said: list[messages_pb2.Envelope] = []
        while len(said) < 4:
            said += messages_pb2.EnvelopeBatch.FromString((await next_message(queue)).body).envelopes
    assert (answer.said_again_count, answer.pending_count) == (4, 1)
    assert list(answer.unknown_payment_ids) == [unknown]
    stored = [(await system.facts(id_of(command)))[-1] for command in (approved, rejected, owed, refunded)]
    assert sorted(said, key=str) == sorted(stored, key=str)
    assert len(await system.history(id_of(approved))) == 2


async def test_a_decided_payment_says_its_fact_again_to_a_repeated_pay(
    system: System, amqp_url: str, unique: str
) -> None:
    request_id, reservation_id = str(uuid4()), uuid4()
    first = pay_command(request_id=request_id, reservation_id=reservation_id, reply_to="gateway.1")
    again = pay_command(request_id=request_id, reservation_id=reservation_id, reply_to="gateway.2")
    async with system.running():
        await system.pay(first)
        await system.until_state(id_of(first), "APPROVED")
    async with channel_to(amqp_url) as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(unique, keys.PAYMENT_APPROVED)
        await system.pay(again)
        [fact] = messages_pb2.EnvelopeBatch.FromString((await next_message(queue)).body).envelopes
    assert (fact.reply_to, fact.command_id) == ("gateway.2", again.message_id)
    assert fact.message_id == (await system.facts(id_of(first)))[0].message_id
    assert fact.message_id == str(ids.derived_id((await system.payment(id_of(first)))["payment_id"], "approved"))


@pytest.mark.parametrize("payment_ids", [[], ["x"], [str(uuid4())] * 257])
async def test_a_wrong_reconcile_request_is_invalid(client: Client, payment_ids: list[str]) -> None:
    with pytest.raises(AioRpcError) as caught:
        await client.payments.ReconcilePayments(ReconcilePaymentsRequest(payment_ids=payment_ids))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(from_upstream(caught.value).violations) == ["payment_ids"]


async def test_reconciling_without_a_broker_is_unavailable(
    system: System, client: Client, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.publisher.BUFFER_ENVELOPES_MAX", 0)
    command = pay_command()
    async with system.running():
        await system.pay(command)
        await system.until_state(id_of(command), "APPROVED")
    assert publisher.connected
    with pytest.raises(AioRpcError) as caught:
        await client.payments.ReconcilePayments(ReconcilePaymentsRequest(payment_ids=[id_of(command)]))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert from_upstream(caught.value).reason == "BROKER_UNAVAILABLE"
