"""Another body under a used request_id is refused and changes nothing; the first body goes on undisturbed."""

from uuid import uuid4

import pytest

from chassis.attempts import Poison
from chassis.publisher import Publisher
from tests.payments.fakes import FakeProvider
from tests.payments.system import System, id_of, pay_command
from ticketrush.messages.v1 import messages_pb2 as pb

REQUEST_ID, RESERVATION_ID = str(uuid4()), uuid4()


@pytest.fixture
def outcomes(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, pb.Envelope]]:
    """What is sent straight to reply queues, still on its way to the broker."""
    sent: list[tuple[str, pb.Envelope]] = []
    send = publisher.send_outcome

    def note(reply_to: str, envelope: bytes) -> None:
        sent.append((reply_to, pb.Envelope.FromString(envelope)))
        send(reply_to, envelope)

    monkeypatch.setattr(publisher, "send_outcome", note)
    return sent


@pytest.mark.parametrize(
    "other",
    [
        pay_command(request_id=REQUEST_ID, reservation_id=RESERVATION_ID, amount_minor=1, reply_to="gateway.1"),
        pay_command(request_id=REQUEST_ID, reservation_id=RESERVATION_ID, payment_method="pm_2", reply_to="gateway.1"),
        pay_command(request_id=REQUEST_ID, reservation_id=uuid4(), reply_to="gateway.1"),
    ],
    ids=["amount", "card", "reservation"],
)
@pytest.mark.parametrize("decided", [True, False], ids=["decided", "pending"])
async def test_another_body_is_refused(
    system: System,
    provider: FakeProvider,
    outcomes: list[tuple[str, pb.Envelope]],
    other: pb.Envelope,
    decided: bool,
) -> None:
    first = pay_command(request_id=REQUEST_ID, reservation_id=RESERVATION_ID, reply_to="gateway.0")
    if decided:
        async with system.running():
            await system.pay(first)
            await system.until_state(id_of(first), "APPROVED")
    else:
        await system.pay(first)
    before = await system.rows("SELECT * FROM payment")
    await system.pay(other)
    [(reply_to, envelope)] = outcomes
    assert reply_to == "gateway.1"
    assert envelope.command_id == other.message_id
    assert envelope.outcome.refuse_reason == "REQUEST_ID_REUSED"
    assert await system.rows("SELECT * FROM payment") == before
    assert provider.count("Charge") == (1 if decided else 0)


async def test_another_buyer_may_use_the_same_request_id(system: System) -> None:
    one = pay_command(request_id=REQUEST_ID, buyer_id="anna")
    two = pay_command(request_id=REQUEST_ID, buyer_id="bert")
    async with system.running():
        await system.pay(one, two)
        await system.until_state(id_of(one), "APPROVED")
        await system.until_state(id_of(two), "APPROVED")


async def test_both_bodies_in_one_batch_are_told_apart(system: System, outcomes: list[tuple[str, pb.Envelope]]) -> None:
    first = pay_command(request_id=REQUEST_ID, reservation_id=RESERVATION_ID)
    other = pay_command(request_id=REQUEST_ID, reservation_id=RESERVATION_ID, amount_minor=1, reply_to="gateway.1")
    await system.pay(first, other)
    assert [reply_to for reply_to, _ in outcomes] == ["gateway.1"]
    assert (await system.payment(id_of(first)))["asked_minor"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payment_id", "not a uuid"),
        ("reservation_id", ""),
        ("request_id", "1"),
        ("buyer_id", ""),
        ("buyer_id", "a b"),
        ("buyer_id", "a" * 65),
        ("amount_minor", -1),
        ("amount_minor", 1_000_000_000_001),
        ("payment_method", ""),
        ("payment_method", "p" * 65),
        ("payment_method", "pm\0"),
    ],
)
async def test_a_malformed_request_is_parked_and_its_neighbours_go_through(
    system: System, field: str, value: str | int
) -> None:
    wrong, right = pay_command(), pay_command()
    setattr(wrong.request_payment, field, value)
    [failure] = await system.handlers.request_payments([wrong, right])
    assert failure.envelope is wrong
    assert isinstance(failure.error, Poison)
    assert (await system.payment(id_of(right)))["state"] == "PENDING"


async def test_a_payment_id_of_another_request_is_parked(system: System) -> None:
    first, clash = pay_command(), pay_command()
    clash.request_payment.payment_id = first.request_payment.payment_id
    await system.pay(first)
    [failure] = await system.handlers.request_payments([clash])
    assert isinstance(failure.error, Poison)
