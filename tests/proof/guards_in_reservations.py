"""Guards of tickets and money in reservations.

Guards that back each other up are taken out together: one of them alone, nobody would miss.
"""

from typing import Final

from tests.proof.guard import LOCKSTEP, Edit, Guard

HOLDS: Final = "reservations/domain/holds.py"
MONEY: Final = "reservations/domain/money.py"
MODEL: Final = "reservations/domain/model.py"
BOOKS: Final = "reservations/store/books.py"
CHANGES: Final = "reservations/store/changes.py"
SCHEMA: Final = "reservations/migrations/0001_reservations.sql"

_NO_LOCKS: Final = (
    Edit(BOOKS, "ORDER BY reservation_id FOR UPDATE", "ORDER BY reservation_id"),
    Edit(BOOKS, "ORDER BY event_id, ticket_id FOR UPDATE OF ticket", "ORDER BY event_id, ticket_id"),
    Edit(BOOKS, "ORDER BY event_id, buyer_id FOR UPDATE OF allowance", "ORDER BY event_id, buyer_id"),
)
_NO_VERSIONS: Final = (
    Edit(CHANGES, " AND reservation.version = new.version_read", ""),
    Edit(CHANGES, "\n                 AND ticket.version = new.version_read", ""),
    Edit(CHANGES, "\n                 AND allowance.ticket_count = new.count_read", ""),
    Edit(CHANGES, " AND credit.state = new.state_read", ""),
)
_NO_UNIQUE_TICKET: Final = Edit(
    SCHEMA,
    "CREATE UNIQUE INDEX one_live_reservation_per_ticket",
    "CREATE INDEX one_live_reservation_per_ticket",
)

TICKETS_AND_MONEY: Final = (
    Guard(
        "late approval is not ignored",
        (
            Edit(
                MONEY,
                "        credit.state = CreditState.REFUND_DUE\n"
                "        reservation.refund_due_minor += credit.amount_minor\n"
                "        reservation.set_release_time()\n"
                "        books.take_step(StepKind.MONEY_CHANGED, reservation, [credit])",
                "        credit.state = CreditState.CLOSED\n"
                "        books.take_step(StepKind.MONEY_CHANGED, reservation)",
            ),
        ),
        (
            "tests/reservations/test_late_charges.py::test_a_late_charge_goes_back_when_one_of_its_tickets_is_gone",
            LOCKSTEP,
        ),
    ),
    Guard(
        "no blind revival",
        (
            Edit(
                MONEY, "all(ticket.state is TicketState.AVAILABLE for ticket in books.tickets_of(reservation))", "True"
            ),
        ),
        (
            "tests/reservations/test_late_charges.py::test_a_late_charge_goes_back_when_one_of_its_tickets_is_gone",
            "tests/reservations/test_races.py::test_a_seat_that_a_late_charge_and_a_new_buyer_want_goes_to_the_first",
            LOCKSTEP,
        ),
    ),
    Guard(
        "expiry reads the state again under lock",
        (
            Edit(BOOKS, "ORDER BY release_time LIMIT %s FOR UPDATE SKIP LOCKED", "ORDER BY release_time LIMIT %s"),
            _NO_VERSIONS[0],
        ),
        ("tests/reservations/test_races.py::test_a_hold_whose_time_is_over_ends_in_one_way",),
    ),
    Guard(
        "only a live hold expires",
        (Edit(HOLDS, "if reservation.state not in LIVE_HOLD or reservation.release_time > books.now:", "if False:"),),
        ("tests/reservations/test_hold_endings.py::test_each_ending_takes_its_arrows_and_no_others",),
    ),
    Guard(
        "opening counts what is open",
        (
            Edit(
                MODEL,
                "return self.total_minor - self.paid_minor - self.open_minor",
                "return self.total_minor - self.paid_minor",
            ),
        ),
        ("tests/reservations/test_money.py::test_what_is_paid_and_what_is_being_charged_is_not_due_any_more", LOCKSTEP),
    ),
    Guard(
        "opening needs a live hold",
        (Edit(MONEY, "    if reservation.state not in LIVE_HOLD:\n        return reasons.HOLD_ENDED\n", ""),),
        ("tests/reservations/test_money.py::test_a_payment_without_a_live_hold_is_refused",),
    ),
    Guard(
        "a part payment is not kept",
        (
            Edit(
                HOLDS,
                "            credit.state = CreditState.REFUND_DUE\n            refunds.append(credit)",
                "            pass",
            ),
        ),
        (
            "tests/reservations/test_hold_endings.py"
            "::test_only_what_was_applied_goes_back_a_charge_under_way_waits_for_its_outcome",
            LOCKSTEP,
        ),
    ),
    Guard(
        "an approval is applied once",
        (Edit(MONEY, "    elif credit.state is not CreditState.CLOSED:\n        return\n", ""),),
        ("tests/reservations/test_settle.py::test_an_approval_repeated_for_ever_is_applied_once", LOCKSTEP),
    ),
    Guard(
        "a late rejection frees nothing",
        (Edit(MONEY, "if credit is None or credit.state is not CreditState.OPEN:", "if credit is None:"),),
        ("tests/reservations/test_settle.py::test_a_late_or_repeated_rejection_never_frees_a_paid_ticket",),
    ),
    Guard(
        "a buyer does not cancel a sale",
        (
            Edit(HOLDS, "        case ReservationState.CONFIRMED:\n            return reasons.ALREADY_CONFIRMED\n", ""),
            Edit(
                HOLDS,
                "case ReservationState.HELD | ReservationState.PARTIALLY_PAID:",
                "case ReservationState.HELD | ReservationState.PARTIALLY_PAID | ReservationState.CONFIRMED:",
            ),
        ),
        ("tests/reservations/test_hold_endings.py::test_each_ending_takes_its_arrows_and_no_others",),
    ),
    Guard(
        "a refund without debt is an alarm",
        (Edit(MONEY, "if credit is None or credit.state is not CreditState.REFUND_DUE:", "if credit is None:"),),
        ("tests/reservations/test_money.py::test_each_outcome_takes_its_arrow_once_and_no_other",),
    ),
    Guard(
        "the limit per buyer is checked",
        (Edit(MODEL, "return not limit or self.allowances", "return True or self.allowances"),),
        ("tests/reservations/test_holds.py::test_the_limit_counts_what_a_buyer_has_and_what_he_wants",),
    ),
    Guard(
        "a Reserve that waited too long becomes no hold",
        (Edit(HOLDS, "if books.now - command.occur_time > COMMAND_AGE_MAX:", "if False:"),),
        ("tests/reservations/test_holds.py::test_of_several_reasons_to_refuse_the_first_in_the_order_is_told",),
    ),
    Guard(
        "charges keep tickets no longer than the hard limit",
        (
            Edit(
                MODEL,
                "min(max(latest, self.expire_time), self.expire_time + RELEASE_EXTENSION_MAX)",
                "max(latest, self.expire_time)",
            ),
        ),
        ("tests/reservations/test_money.py::test_charges_never_keep_the_tickets_beyond_the_hard_limit",),
    ),
    Guard(
        "a Reserve with another body is told apart",
        (
            Edit(
                "reservations/handlers/reserve.py",
                "elif decided_under == (command.reservation_id, command.command_id):",
                "elif decided_under:",
            ),
        ),
        (
            "tests/reservations/test_reserve.py::test_another_body_under_the_same_request_id_is_refused_and_changes_nothing",
        ),
    ),
)

DATABASE: Final = (
    Guard(
        "no lock and no version check",
        (*_NO_LOCKS, *_NO_VERSIONS),
        ("tests/reservations/test_races.py::test_a_hold_whose_time_is_over_ends_in_one_way",),
    ),
    Guard(
        "a seat is sold once: lock, version and unique index together",
        (*_NO_LOCKS, *_NO_VERSIONS, _NO_UNIQUE_TICKET),
        ("tests/reservations/test_reserve.py::test_of_two_hundred_buyers_at_once_for_one_seat_exactly_one_gets_it",),
    ),
    Guard(
        "the unique index on live tickets",
        (_NO_UNIQUE_TICKET,),
        ("tests/reservations/test_constraints.py::test_a_ticket_has_at_most_one_live_reservation",),
    ),
    Guard(
        "the unique constraint on requests",
        (Edit(SCHEMA, "    CONSTRAINT one_reservation_per_request UNIQUE (buyer_id, request_id),\n", ""),),
        ("tests/reservations/test_constraints.py::test_a_request_has_one_reservation",),
    ),
    Guard(
        "the sweep releases what is due",
        (
            Edit(
                "reservations/handlers/sweeps.py",
                "            await store.claim_due_reservations(conn, books, EXPIRY_BATCH_MAX)\n",
                "",
            ),
        ),
        ("tests/reservations/test_sweeps.py::test_a_hold_is_released_when_its_time_is_over_and_not_before",),
    ),
    Guard(
        "the sweep passes over what somebody decides on",
        (
            Edit(
                BOOKS,
                "ORDER BY release_time LIMIT %s FOR UPDATE SKIP LOCKED",
                "ORDER BY release_time LIMIT %s FOR UPDATE",
            ),
        ),
        ("tests/reservations/test_sweeps.py::test_a_hold_that_somebody_decides_on_is_left_to_the_next_sweep",),
    ),
)
