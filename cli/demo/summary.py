"""What is left when the curtain falls, read back from the services, and whether everybody's books agree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cli.addresses import address_of
from cli.demo.box_office import BoxOffice
from cli.demo.patience import Patience, SceneFailed
from cli.within import dial
from ticketrush.provider.v1 import provider_pb2
from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

SETTLED_SOON_S: Final = 10.0
PROVIDER_PAGE_SIZE: Final = 1_000
_PAGE_SIZE: Final = 500

_UNDECIDED = frozenset({pb.Reservation.STATE_PENDING, pb.Reservation.STATE_HELD, pb.Reservation.STATE_PARTIALLY_PAID})
_UNSETTLED = frozenset({pb.Payment.STATE_PENDING, pb.Payment.STATE_REFUND_DUE})
_CHARGED = frozenset({pb.Payment.STATE_APPROVED, pb.Payment.STATE_REFUND_DUE, pb.Payment.STATE_REFUNDED})


@dataclass(frozen=True)
class Money:
    """One side's account of this run, in minor units."""

    charged_minor: int
    given_back_minor: int

    @property
    def kept_minor(self) -> int:
        return self.charged_minor - self.given_back_minor


@dataclass(frozen=True)
class Summary:
    """This run, as its services tell it."""

    events: Sequence[catalog.Event]
    reservations: Sequence[pb.Reservation]
    payments: Sequence[pb.Payment]
    charges: Sequence[provider_pb2.Charge]

    def reservations_by_state(self) -> Mapping[str, int]:
        """How many reservations are in each state."""
        return Counter(_plain(pb.Reservation.State.Name(found.state)) for found in self.reservations)

    def payments_by_state(self) -> Mapping[str, tuple[int, int]]:
        """State -> how many payments, and their sum in minor units."""
        counts = Counter(found.state for found in self.payments)
        sums: Counter[pb.Payment.State.ValueType] = Counter()
        for found in self.payments:
            sums[found.state] += found.amount_minor
        return {_plain(pb.Payment.State.Name(state)): (counts[state], sums[state]) for state in sorted(counts)}

    def books(self) -> Mapping[str, Money]:
        """Whose books -> what they say. All the same, or something is wrong."""
        return {
            "reservations": Money(
                sum(found.paid_minor + found.refund_due_minor + found.refunded_minor for found in self.reservations),
                sum(found.refunded_minor for found in self.reservations),
            ),
            "payments": Money(
                sum(found.amount_minor for found in self.payments if found.state in _CHARGED),
                sum(found.amount_minor for found in self.payments if found.state == pb.Payment.STATE_REFUNDED),
            ),
            "provider": Money(
                sum(found.amount_minor for found in self.charges if found.state == provider_pb2.Charge.STATE_APPROVED),
                sum(found.refunded_minor for found in self.charges),
            ),
        }

    def sold_minor(self) -> int:
        """Price of all tickets sold: what must have been kept."""
        sold = pb.Reservation.STATE_CONFIRMED
        return sum(found.total_minor for found in self.reservations if found.state == sold)

    def agrees(self) -> bool:
        """Whether all books say the same, and kept is exactly what was sold."""
        books = set(self.books().values())
        return len(books) == 1 and books.pop().kept_minor == self.sold_minor()


async def read_back(office: BoxOffice) -> Summary:
    """Waits until nothing is under way any more, then reads everything. Raises SceneFailed."""

    async def settled() -> tuple[list[pb.Reservation], list[pb.Payment]] | None:
        reservations = [found for event_id in office.event_ids for found in await _reservations(office, event_id)]
        payments = [found for reservation in reservations for found in await _payments(office, reservation)]
        under_way = any(found.state in _UNDECIDED for found in reservations) or any(
            found.state in _UNSETTLED for found in payments
        )
        return None if under_way else (reservations, payments)

    reservations, payments = await office.patience.until(
        "summary", settled, what="everything to settle", soon_s=SETTLED_SOON_S
    )
    requests = [catalog.GetEventRequest(event_id=event_id) for event_id in office.event_ids]
    events = [(await office.patience.call(office.catalog.GetEvent, request)).event for request in requests]
    charges = await _charges(office.patience, {payment.payment_id for payment in payments})
    return Summary(events, reservations, payments, charges)


async def _reservations(office: BoxOffice, event_id: str) -> list[pb.Reservation]:
    found: list[pb.Reservation] = []
    request = pb.ListReservationsRequest(event_id=event_id, page_size=_PAGE_SIZE)
    while True:
        answer = await office.patience.call(office.ticketing.ListReservations, request)
        found += answer.reservations
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def _payments(office: BoxOffice, reservation: pb.Reservation) -> list[pb.Payment]:
    # A reservation takes 20 payments at most: one page.
    request = pb.ListPaymentsRequest(reservation_id=reservation.reservation_id, page_size=_PAGE_SIZE)
    return list((await office.patience.call(office.ticketing.ListPayments, request)).payments)


async def _charges(patience: Patience, payment_ids: set[str]) -> list[provider_pb2.Charge]:
    """The provider's own statement, as far as it is about these payments."""
    address = address_of("PROVIDER")
    if address is None:
        raise SceneFailed(
            "nothing says where the provider is: `make up` writes .run/stack.env, or set PROVIDER_ADDRESS"
        )
    found: list[provider_pb2.Charge] = []
    async with dial(address, "provider") as channel:
        provider = PaymentProviderServiceStub(channel)
        request = provider_pb2.ListChargesRequest(page_size=PROVIDER_PAGE_SIZE)
        while True:
            answer = await patience.call(provider.ListCharges, request, who="provider")
            found += [charge for charge in answer.charges if charge.payment_id in payment_ids]
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token


def _plain(state: str) -> str:
    return state.removeprefix("STATE_")
