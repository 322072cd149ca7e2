"""Whatever happens to a few reservations of the same seats, in whatever order and however often: nothing is lost.

Hypothesis draws the sequences. After each step the promises of the design are held against the whole of the books.
"""

from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from reservations.domain import holds, money
from reservations.domain.model import CreditState, ReservationState, TicketState
from tests.reservations.ledger import EVENT_ID, PRICE_MINOR, command, decided, event, open_books, ticket

SEATS = (ticket(1), ticket(2))
CARTS = ((0,), (1,), (0, 1))
BUYERS = ("ann", "bob")
AMOUNTS_MINOR = (0, 1, PRICE_MINOR, 2 * PRICE_MINOR)
GONE_BACK = (CreditState.REFUND_DUE, CreditState.REFUNDED)

# (what happens, to which reservation, by which payment, and a choice of buyer, cart or amount)
OPERATIONS = st.tuples(
    st.sampled_from(
        ("reserve", "open", "open", "approve", "approve", "reject", "complete", "expire", "cancel", "refund", "forge")
    ),
    st.integers(0, 3),
    st.integers(0, 5),
    st.integers(0, 5),
)


class World:
    """One event with two seats, whoever reserves them, and a card processor that may say anything at any time."""

    def __init__(self) -> None:
        self.books = open_books(SEATS, event(max_tickets_per_buyer=2))
        self.payments: list[tuple[UUID, UUID]] = []  # (payment_id, reservation_id), opened or forged
        self.charged: set[UUID] = set()
        self.taken_back: set[UUID] = set()

    def happen(self, kind: str, reservation_choice: int, payment_choice: int, choice: int) -> None:
        """One thing happens, if it can."""
        self.books.now += timedelta(seconds=20)
        if kind == "reserve":
            seats = [SEATS[index] for index in CARTS[choice % len(CARTS)]]
            buyer_id = BUYERS[choice % len(BUYERS)]
            decided(self.books, command(*seats, buyer_id=buyer_id, occur_time=self.books.now))
        elif kind in ("approve", "reject", "complete"):
            if self.payments:
                self.hear(kind, *self.payments[payment_choice % len(self.payments)])
        elif self.books.reservations:
            ids = list(self.books.reservations)
            self.touch(kind, ids[reservation_choice % len(ids)], choice)

    def touch(self, kind: str, reservation_id: UUID, choice: int) -> None:
        """Something happens to a reservation."""
        books, reservation = self.books, self.books.reservations[reservation_id]
        payment_id = uuid4()
        if kind == "open":
            amount_minor = AMOUNTS_MINOR[choice % len(AMOUNTS_MINOR)]
            if not money.open_payment(books, reservation, payment_id, reservation.buyer_id, amount_minor):
                self.payments.append((payment_id, reservation_id))
        elif kind == "forge":
            self.payments.append((payment_id, reservation_id))
        elif kind == "expire":
            books.now = max(books.now, reservation.release_time)
            holds.expire(books, reservation)
        elif kind == "cancel":
            holds.cancel(books, reservation)
        elif not holds.refund(books, reservation):
            self.taken_back.add(reservation_id)

    def hear(self, kind: str, payment_id: UUID, reservation_id: UUID) -> None:
        """The payments service tells an outcome, and at once tells it again."""
        self._tell(kind, payment_id, reservation_id)
        before = repr(self.books)
        self._tell(kind, payment_id, reservation_id)
        assert repr(self.books) == before, "a repeated message changed something"

    def _tell(self, kind: str, payment_id: UUID, reservation_id: UUID) -> None:
        books, reservation = self.books, self.books.reservations[reservation_id]
        if kind == "approve":
            credit = reservation.credits.get(payment_id)
            self.charged.add(payment_id)
            money.approve(books, reservation, payment_id, credit.amount_minor if credit else 1)
        elif kind == "reject":
            money.reject(books, reservation, payment_id)
        elif payment_id in reservation.credits and reservation.credits[payment_id].state in GONE_BACK:
            # Only what was asked back is refunded; anything else raises, which test_money.py shows.
            money.complete_refund(books, reservation, payment_id)

    def check(self) -> None:
        """The promises."""
        for rule in (self._seats, self._money, self._sums, self._steps, self._refund_commands):
            rule()

    def _seats(self) -> None:
        owners: Counter[UUID] = Counter()
        counts: Counter[str] = Counter()
        for reservation in self.books.reservations.values():
            if reservation.holds_tickets:
                owners.update(reservation.ticket_ids)
                counts[reservation.buyer_id] += len(reservation.ticket_ids)
                wanted = TicketState.SOLD if reservation.state is ReservationState.CONFIRMED else TicketState.HELD
                assert {seat.state for seat in self.books.tickets_of(reservation)} == {wanted}
        assert all(count == 1 for count in owners.values()), "a ticket in two live reservations"
        for seat in self.books.tickets.values():
            assert (seat.state is TicketState.AVAILABLE) == (seat.ticket_id not in owners)
        assert all(self.books.allowances.get((EVENT_ID, buyer), 0) == counts[buyer] <= 2 for buyer in BUYERS)

    def _money(self) -> None:
        for payment_id, reservation_id in self.payments:
            reservation = self.books.reservations[reservation_id]
            credit = reservation.credits.get(payment_id)
            if payment_id in self.charged:
                assert credit is not None, "money that nobody knows of"
                kept = credit.state is CreditState.APPLIED
                assert kept or credit.state in GONE_BACK
                assert not kept or reservation.holds_tickets, "money kept without tickets"
            else:
                assert credit is None or credit.state in (CreditState.OPEN, CreditState.CLOSED)

    def _sums(self) -> None:
        for reservation in self.books.reservations.values():
            sums: Counter[CreditState] = Counter()
            for credit in reservation.credits.values():
                sums[credit.state] += credit.amount_minor
            assert reservation.paid_minor == sums[CreditState.APPLIED]
            assert reservation.open_minor == sums[CreditState.OPEN]
            assert reservation.refund_due_minor == sums[CreditState.REFUND_DUE]
            assert reservation.refunded_minor == sums[CreditState.REFUNDED]
            assert reservation.paid_minor + reservation.open_minor <= reservation.total_minor
            if reservation.state is ReservationState.CONFIRMED:
                assert reservation.paid_minor == reservation.total_minor

    def _steps(self) -> None:
        versions: dict[UUID, int] = {}
        sold: set[UUID] = set()
        for step in self.books.steps:
            subject = step.reservation.reservation_id
            assert step.reservation.version == versions.get(subject, 0) + 1
            versions[subject] = step.reservation.version
            if step.reservation.state is ReservationState.CONFIRMED:
                sold.add(subject)
            else:
                assert subject not in sold or subject in self.taken_back, "a sale was taken back by a race"
        assert versions == {key: found.version for key, found in self.books.reservations.items()}

    def _refund_commands(self) -> None:
        asked = Counter(credit.payment_id for step in self.books.steps for credit in step.refunds)
        known = [credit for found in self.books.reservations.values() for credit in found.credits.values()]
        assert asked == {credit.payment_id: 1 for credit in known if credit.state in GONE_BACK}

    def settle(self) -> None:
        """Every outcome arrives in the end, every refund is made."""
        for payment_id, reservation_id in self.payments:
            self.hear("approve" if payment_id in self.charged else "reject", payment_id, reservation_id)
            self.hear("complete", payment_id, reservation_id)
        self.check()
        for found in self.books.reservations.values():
            assert (found.open_minor, found.refund_due_minor) == (0, 0)


def run(operations: list[tuple[str, int, int, int]]) -> World:
    world = World()
    for operation in operations:
        world.happen(*operation)
        world.check()
    world.settle()
    return world


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(OPERATIONS, min_size=5, max_size=40))
def test_every_charge_ends_as_a_sale_or_back_with_its_buyer(operations: list[tuple[str, int, int, int]]) -> None:
    run(operations)


def test_the_search_reaches_what_it_is_about() -> None:
    """The rarest arrows are there to be found: a late charge that buys, one that goes back, a sale taken back."""
    world = run(
        [
            ("reserve", 0, 0, 2),  # ann: both seats
            ("open", 0, 0, 0),
            ("expire", 0, 0, 0),
            ("reserve", 0, 0, 1),  # bob: one of them
            ("cancel", 1, 0, 0),
            ("approve", 0, 0, 0),
            ("refund", 0, 0, 0),
            ("reserve", 0, 0, 1),
            ("open", 2, 0, 0),
            ("expire", 2, 0, 0),
            ("reserve", 0, 0, 2),
            ("approve", 0, 1, 0),
        ]
    )
    states = [found.state for found in world.books.reservations.values()]
    assert states == ["CANCELLED", "CANCELLED", "EXPIRED", "HELD"]
    assert [found.refunded_minor for found in world.books.reservations.values()] == [10_000, 0, 5_000, 0]
