"""The demo's own check: it says that the books agree only when they do."""

from dataclasses import replace

import pytest

from cli.demo.summary import Money, Summary
from ticketrush.provider.v1 import provider_pb2
from ticketrush.v1 import ticketing_pb2 as pb

Reservation, Payment, Charge = pb.Reservation, pb.Payment, provider_pb2.Charge

SOUND = Summary(
    events=[],
    reservations=[
        pb.Reservation(state=Reservation.STATE_CONFIRMED, total_minor=9_000, paid_minor=9_000),
        pb.Reservation(state=Reservation.STATE_EXPIRED, total_minor=4_500, refunded_minor=4_500),
        pb.Reservation(state=Reservation.STATE_REJECTED),
    ],
    payments=[
        pb.Payment(state=Payment.STATE_APPROVED, amount_minor=3_000),
        pb.Payment(state=Payment.STATE_APPROVED, amount_minor=6_000),
        pb.Payment(state=Payment.STATE_REFUNDED, amount_minor=4_500),
        pb.Payment(state=Payment.STATE_REJECTED, amount_minor=9_000),
    ],
    charges=[
        provider_pb2.Charge(state=Charge.STATE_APPROVED, amount_minor=3_000),
        provider_pb2.Charge(state=Charge.STATE_APPROVED, amount_minor=6_000),
        provider_pb2.Charge(state=Charge.STATE_APPROVED, amount_minor=4_500, refunded_minor=4_500),
        provider_pb2.Charge(state=Charge.STATE_DECLINED, amount_minor=9_000),
    ],
)


def test_sound_books_agree() -> None:
    assert set(SOUND.books().values()) == {Money(charged_minor=13_500, given_back_minor=4_500)}
    assert SOUND.sold_minor() == 9_000
    assert SOUND.agrees()


def test_states_are_counted_and_summed() -> None:
    assert SOUND.reservations_by_state() == {"CONFIRMED": 1, "EXPIRED": 1, "REJECTED": 1}
    assert SOUND.payments_by_state() == {"APPROVED": (2, 9_000), "REJECTED": (1, 9_000), "REFUNDED": (1, 4_500)}


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("a charge nobody knows of", {"charges": [*SOUND.charges, SOUND.charges[0]]}),
        ("a payment that was never charged", {"charges": SOUND.charges[1:]}),
        (
            "a refund that was never given",
            {"charges": [*SOUND.charges[:2], provider_pb2.Charge(state=Charge.STATE_APPROVED, amount_minor=4_500)]},
        ),
        (
            "a cent too much",
            {
                "reservations": [
                    pb.Reservation(state=Reservation.STATE_CONFIRMED, total_minor=9_000, paid_minor=9_001),
                    *SOUND.reservations[1:],
                ]
            },
        ),
        (
            "a sale that was never paid",
            {"reservations": [*SOUND.reservations, pb.Reservation(state=Reservation.STATE_CONFIRMED, total_minor=100)]},
        ),
    ],
)
def test_books_with_a_fault_do_not_agree(what: str, wrong: dict[str, list[object]]) -> None:
    assert not replace(SOUND, **wrong).agrees(), what  # type: ignore[arg-type] # each case names a field and its value
