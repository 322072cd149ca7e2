"""Reserve, from the envelope to the answer, on a real database: who gets the tickets, who is told what."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from chassis.consumer import Poison
from contract import reasons
from contract.invariants import Invariant
from reservations.domain.model import OPEN_HOLDS_MAX
from reservations.store.changes import Superseded
from reservations.store.invariants import CHECKS
from tests.reservations.core import PRICE_MINOR, Service, Shop
from tests.reservations.sayings import ANN, BOB, Hall, approved, cancel, reserve
from tests.reservations.standstill import one_runs_into_the_other
from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.v1 import ticketing_pb2 as pb

HELD, REJECTED = pb.Reservation.STATE_HELD, pb.Reservation.STATE_REJECTED


async def in_batches(
    shop: Shop, service: Service, envelopes: Sequence[msg.Envelope], sizes: Sequence[int]
) -> list[msg.Outcome]:
    """As one process takes them from its queue: batch after batch."""
    outcomes: list[msg.Outcome] = []
    begin = 0
    while begin < len(envelopes):
        size = sizes[begin % len(sizes)]
        outcomes += await shop.ask(service.reserve, *envelopes[begin : begin + size])
        begin += size
    return outcomes


def summary(outcomes: Sequence[msg.Outcome]) -> Counter[tuple[str, str]]:
    return Counter(
        (pb.Reservation.State.Name(outcome.reservation.state), outcome.reservation.reject_reason)
        for outcome in outcomes
    )


async def test_of_two_hundred_buyers_at_once_for_one_seat_exactly_one_gets_it(shop: Shop) -> None:
    hall = await shop.event(seats=1)
    rush = [reserve(hall, 0, buyer_id=f"fan-{number}") for number in range(200)]
    outcomes = await asyncio.gather(
        in_batches(shop, shop.one, rush[::2], sizes=(1, 7, 30)),
        in_batches(shop, shop.two, rush[1::2], sizes=(20, 1, 3)),
    )
    assert summary(outcomes[0] + outcomes[1]) == {
        ("STATE_HELD", ""): 1,
        ("STATE_REJECTED", reasons.TICKETS_TAKEN): 199,
    }
    assert await shop.tickets(hall) == ["HELD"]
    await shop.check(hall)


async def test_twenty_reserves_at_once_of_one_buyer_do_not_exceed_the_limit(shop: Shop) -> None:
    hall = await shop.event(seats=20, max_tickets_per_buyer=3)
    outcomes = await asyncio.gather(
        *(shop.ask((shop.one, shop.two)[seat % 2].reserve, reserve(hall, seat)) for seat in range(20))
    )
    assert summary([outcome for [outcome] in outcomes]) == {
        ("STATE_HELD", ""): 3,
        ("STATE_REJECTED", reasons.LIMIT_EXCEEDED): 17,
    }
    await shop.check(hall)


async def test_forty_reserves_at_once_of_one_buyer_become_ten_holds_and_all_are_decided(shop: Shop) -> None:
    hall = await shop.event(seats=40)
    outcomes = await asyncio.gather(
        *(shop.ask((shop.one, shop.two)[seat % 2].reserve, reserve(hall, seat)) for seat in range(40))
    )
    assert summary([outcome for [outcome] in outcomes]) == {
        ("STATE_HELD", ""): OPEN_HOLDS_MAX,
        ("STATE_REJECTED", reasons.LIMIT_EXCEEDED): 40 - OPEN_HOLDS_MAX,
    }
    await shop.check(hall)


async def test_forty_reserves_at_once_of_one_buyer_who_pays_nothing_are_all_granted(shop: Shop) -> None:
    hall = await shop.event(seats=40, price_minor=0)
    outcomes = await asyncio.gather(
        *(shop.ask((shop.one, shop.two)[seat % 2].reserve, reserve(hall, seat)) for seat in range(40))
    )
    assert summary([outcome for [outcome] in outcomes]) == {("STATE_CONFIRMED", ""): 40}
    await shop.check(hall)


@pytest.mark.parametrize("is_new", [True, False], ids=["a new buyer", "a buyer with a hold"])
async def test_two_processes_together_grant_no_more_holds_than_one(shop: Shop, is_new: bool) -> None:
    """Of a new buyer there is no row yet that could be locked."""
    hall = await shop.event(seats=20)
    if not is_new:
        await shop.hold(reserve(hall, 19))
    outcomes: list[msg.Outcome] = []

    async def take(service: Service, begin: int) -> None:
        outcomes.extend(await shop.ask(service.reserve, *(reserve(hall, seat) for seat in range(begin, begin + 6))))

    await one_runs_into_the_other(shop, take(shop.one, 0), take(shop.two, 6))
    granted = OPEN_HOLDS_MAX - (not is_new)
    assert summary(outcomes) == {
        ("STATE_HELD", ""): granted,
        ("STATE_REJECTED", reasons.LIMIT_EXCEEDED): 12 - granted,
    }
    await shop.check(hall)


@pytest.mark.parametrize("way", ["cancelled", "sold", "expired"])
async def test_a_hold_that_ended_leaves_room_for_another(shop: Shop, way: str) -> None:
    hall = await shop.event(seats=OPEN_HOLDS_MAX + 2)
    holds = [await shop.hold(reserve(hall, seat)) for seat in range(OPEN_HOLDS_MAX)]
    [refused] = await shop.ask(shop.one.reserve, reserve(hall, OPEN_HOLDS_MAX))
    assert refused.reservation.reject_reason == reasons.LIMIT_EXCEEDED
    [others] = await shop.ask(shop.one.reserve, reserve(hall, OPEN_HOLDS_MAX, buyer_id=BOB))
    assert others.reservation.state == HELD
    if way == "cancelled":
        await shop.ask(shop.one.settle.cancel_reservation, cancel(holds[0]))
    elif way == "sold":
        await shop.ask(shop.one.settle.payment_approved, approved(await shop.opened(holds[0])))
    else:
        await shop.rows("UPDATE reservation SET release_time = now() WHERE reservation_id = %s", UUID(holds[0]))
        await shop.one.sweeps.expire_due()
    assert (await shop.ask(shop.one.reserve, reserve(hall, OPEN_HOLDS_MAX + 1)))[0].reservation.state == HELD
    await shop.check(hall)


async def test_holds_are_counted_for_each_event_alone(shop: Shop) -> None:
    halls = [await shop.event(seats=OPEN_HOLDS_MAX) for _ in range(2)]
    for hall in halls:
        outcomes = await shop.ask(shop.one.reserve, *(reserve(hall, seat) for seat in range(OPEN_HOLDS_MAX)))
        assert summary(outcomes) == {("STATE_HELD", ""): OPEN_HOLDS_MAX}


async def test_more_holds_than_one_may_have_are_found_by_fsck(shop: Shop) -> None:
    hall = await shop.event(seats=OPEN_HOLDS_MAX + 1)
    for seat in range(OPEN_HOLDS_MAX + 1):
        await shop.hold(reserve(hall, seat, buyer_id=f"fan-{seat}"))
    await shop.rows("UPDATE reservation SET buyer_id = 'ann' WHERE event_id = %s", hall.event_id)
    found = [row for check in CHECKS if check.rule is Invariant.TICKETS for [row] in await shop.rows(check.sql)]
    assert f"buyer ann has 11 holds of event {hall.event_id} that are not paid, of 10 at most" in found


@pytest.mark.parametrize("way", ["one batch", "batches", "handlers at once"])
async def test_the_same_command_three_times_has_one_effect_and_one_answer(shop: Shop, way: str) -> None:
    hall = await shop.event()
    asked = reserve(hall, 0, 1)
    copies = [msg.Envelope.FromString(asked.SerializeToString()) for _ in range(3)]
    if way == "one batch":
        outcomes = await shop.ask(shop.one.reserve, *copies)
    elif way == "batches":
        outcomes = [outcome for copy in copies for outcome in await shop.ask(shop.one.reserve, copy)]
    else:
        services = (shop.one, shop.two, shop.one)
        answers = await asyncio.gather(
            *(shop.ask(service.reserve, copy) for service, copy in zip(services, copies, strict=True))
        )
        outcomes = [outcome for [outcome] in answers]
    assert outcomes[0].reservation.state == HELD
    assert outcomes == [outcomes[0]] * 3
    assert await shop.kinds(outcomes[0].reservation.reservation_id) == ["RESERVED"]
    await shop.check(hall)


async def test_a_repeated_command_shows_the_reservation_as_it_is_now(shop: Shop) -> None:
    hall = await shop.event()
    asked = reserve(hall, 0)
    [first] = await shop.ask(shop.one.reserve, asked)
    await shop.time_passes(hall, timedelta(minutes=6))
    assert await shop.one.sweeps.expire_due() == 1
    [again] = await shop.ask(shop.two.reserve, asked)
    assert again.reservation.reservation_id == first.reservation.reservation_id
    assert again.reservation.state == pb.Reservation.STATE_EXPIRED
    assert [ticket.ticket_id for ticket in again.reservation.tickets] == [str(hall.ticket_ids[0])]


async def test_a_refusal_is_for_ever_even_when_the_ticket_is_free_again(shop: Shop) -> None:
    hall = await shop.event(seats=1)
    await shop.ask(shop.one.reserve, reserve(hall, 0, buyer_id=BOB))
    asked = reserve(hall, 0)
    await shop.ask(shop.one.reserve, asked)
    await shop.time_passes(hall, timedelta(minutes=6))
    await shop.one.sweeps.expire_due()
    [again] = await shop.ask(shop.one.reserve, asked)
    assert (again.reservation.state, again.reservation.reject_reason) == (REJECTED, reasons.TICKETS_TAKEN)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one after the other"])
async def test_another_body_under_the_same_request_id_is_refused_and_changes_nothing(
    shop: Shop, together: bool
) -> None:
    hall, other = await shop.event(), await shop.event()
    request_id = str(uuid4())
    first = reserve(hall, 0, request_id=request_id)
    others = [
        reserve(hall, 1, request_id=request_id),
        reserve(hall, best=("stalls", 1), request_id=request_id),
        reserve(other, 0, request_id=request_id),
    ]
    if together:
        outcomes = await shop.ask(shop.one.reserve, first, *others)
    else:
        outcomes = await shop.ask(shop.one.reserve, first) + await shop.ask(shop.two.reserve, *others)
    assert outcomes[0].reservation.state == HELD
    for outcome in outcomes[1:]:
        assert (outcome.refuse_reason, outcome.HasField("reservation")) == (reasons.REQUEST_ID_REUSED, False)
    assert await shop.tickets(hall) == ["HELD", "AVAILABLE", "AVAILABLE", "AVAILABLE"]
    assert set(await shop.tickets(other)) == {"AVAILABLE"}


async def test_another_event_under_the_same_request_id_is_caught_even_at_the_same_moment(shop: Shop) -> None:
    halls = [await shop.event(), await shop.event()]
    request_id = str(uuid4())
    outcomes = await asyncio.gather(
        *(
            shop.ask(service.reserve, reserve(hall, 0, request_id=request_id))
            for service, hall in zip((shop.one, shop.two), halls, strict=True)
        )
    )
    assert sorted(outcome.refuse_reason for [outcome] in outcomes) == ["", reasons.REQUEST_ID_REUSED]
    for hall in halls:
        await shop.check(hall)


async def test_a_second_request_under_the_same_reservation_id_leaves_no_trace_though_it_comes_beside_the_first(
    shop: Shop,
) -> None:
    """No gateway of ours says such a thing; a reservation has one history all the same."""
    hall = await shop.event()
    first, forged, neighbour = reserve(hall, 0), reserve(hall, 1, buyer_id=BOB), reserve(hall, 2)
    forged.reserve_tickets.reservation_id = first.reserve_tickets.reservation_id
    with pytest.raises(Superseded):
        await shop.one.reserve([first, forged, neighbour])
    assert await shop.tickets(hall) == ["HELD", "AVAILABLE", "HELD", "AVAILABLE"]
    assert await shop.kinds(first.reserve_tickets.reservation_id) == ["RESERVED"]
    await shop.check(hall)


async def test_two_buyers_may_use_the_same_request_id(shop: Shop) -> None:
    hall = await shop.event()
    request_id = str(uuid4())
    outcomes = await shop.ask(
        shop.one.reserve,
        reserve(hall, 0, buyer_id=ANN, request_id=request_id),
        reserve(hall, 1, buyer_id=BOB, request_id=request_id),
    )
    assert [outcome.reservation.state for outcome in outcomes] == [HELD, HELD]


async def test_each_reason_to_refuse_is_told(shop: Shop) -> None:
    hall, elsewhere = await shop.event(seats=3, max_tickets_per_buyer=2), await shop.event()
    closed = await shop.event(state="CLOSED")
    unknown = Hall(uuid4(), hall.ticket_ids)
    await shop.ask(shop.one.reserve, reserve(hall, 0, buyer_id=BOB))
    foreign = str(elsewhere.ticket_ids[0])
    refused = {
        reasons.UNKNOWN_EVENT: reserve(unknown, 0),
        reasons.EVENT_CLOSED: reserve(closed, 0),
        reasons.TOO_LATE: reserve(hall, 1, age=timedelta(seconds=61)),
        reasons.LIMIT_EXCEEDED: reserve(hall, 0, 1, 2),
        reasons.UNKNOWN_TICKET: reserve(hall, ticket_ids=[str(hall.ticket_ids[1]), foreign]),
        reasons.TICKETS_TAKEN: reserve(hall, 0, 1),
        reasons.SOLD_OUT: reserve(hall, best=("balcony", 1)),
    }
    # Somebody else asks for the foreign ticket rightly, in the same batch.
    outcomes = await shop.ask(shop.one.reserve, *refused.values(), reserve(elsewhere, 0, buyer_id="carl"))
    assert [outcome.reservation.reject_reason for outcome in outcomes] == [*refused, ""]
    assert all(outcome.reservation.state == REJECTED for outcome in outcomes[:-1])
    assert not any(outcome.reservation.tickets for outcome in outcomes[:-1])
    for one in (hall, elsewhere, closed):
        await shop.check(one)


async def test_the_sale_window_is_judged_by_the_clock_of_the_database(shop: Shop) -> None:
    [(now,)] = await shop.rows("SELECT clock_timestamp()")
    minute = timedelta(minutes=1)
    # What the commands say of the time would be in time for the first sale, and not too late for the other.
    for window, age in (({"sale_start_time": now + minute}, -2 * minute), ({"sale_end_time": now}, minute / 2)):
        hall = await shop.event(**window)
        [outcome] = await shop.ask(shop.one.reserve, reserve(hall, 0, age=age))
        assert outcome.reservation.reject_reason == reasons.SALE_NOT_OPEN
    hall = await shop.event(sale_start_time=now, sale_end_time=now + minute)
    [outcome] = await shop.ask(shop.one.reserve, reserve(hall, 0, age=minute / 2))
    assert outcome.reservation.state == HELD


async def test_a_hold_counts_from_its_decision_and_not_from_its_command(shop: Shop) -> None:
    hall = await shop.event(hold_duration=timedelta(seconds=90))
    [(before,)] = await shop.rows("SELECT clock_timestamp()")
    [outcome] = await shop.ask(shop.one.reserve, reserve(hall, 0, age=timedelta(seconds=59)))
    [(after,)] = await shop.rows("SELECT clock_timestamp()")
    stored, _ = await shop.reservation(outcome.reservation.reservation_id)
    assert before <= stored.create_time <= after
    assert stored.expire_time == stored.release_time == stored.create_time + timedelta(seconds=90)


async def test_the_answer_and_the_row_show_the_whole_hold(shop: Shop) -> None:
    hall = await shop.event(price_minor=1_250)
    [outcome] = await shop.ask(shop.one.reserve, reserve(hall, 1, 3))
    shown = outcome.reservation
    assert (shown.state, shown.buyer_id, shown.event_id) == (HELD, ANN, str(hall.event_id))
    assert (shown.total_minor, shown.paid_minor, shown.currency, shown.version) == (2_500, 0, "EUR", 1)
    assert [(ticket.seat, ticket.state, ticket.version) for ticket in shown.tickets] == [
        ("2", pb.Ticket.STATE_HELD, 2),
        ("4", pb.Ticket.STATE_HELD, 2),
    ]
    stored, tickets = await shop.reservation(shown.reservation_id)
    assert (
        stored.ticket_ids == tuple(ticket.ticket_id for ticket in tickets) == (hall.ticket_ids[1], hall.ticket_ids[3])
    )


async def test_what_costs_nothing_is_confirmed_at_once(shop: Shop) -> None:
    hall = await shop.event(price_minor=0)
    [outcome] = await shop.ask(shop.one.reserve, reserve(hall, 0, 1))
    assert outcome.reservation.state == pb.Reservation.STATE_CONFIRMED
    assert await shop.tickets(hall) == ["SOLD", "SOLD", "AVAILABLE", "AVAILABLE"]
    assert await shop.kinds(outcome.reservation.reservation_id) == ["SOLD"]
    await shop.check(hall)


async def test_a_malformed_command_is_poison_and_its_neighbours_go_through(shop: Shop) -> None:
    hall = await shop.event()
    flaws = [reserve(hall, 0) for _ in range(6)]
    flaws[0].reserve_tickets.reservation_id = "not an id"
    flaws[1].reserve_tickets.ticket_ids.append(flaws[1].reserve_tickets.ticket_ids[0])
    del flaws[2].reserve_tickets.ticket_ids[:]
    flaws[3].reserve_tickets.ticket_ids.extend(str(uuid4()) for _ in range(100))
    flaws[4].message_id = ""
    flaws[5].reserve_tickets.best_available.quantity = -1
    good = reserve(hall, 1)
    good.reply_to = shop.inbox.queue
    failures = await shop.one.reserve([*flaws[:3], good, *flaws[3:]])
    assert [failure.envelope for failure in failures] == flaws
    assert all(isinstance(failure.error, Poison) for failure in failures)
    assert (await shop.inbox.answer(good.message_id)).reservation.state == HELD
    assert (await shop.tickets(hall)).count("HELD") == 1


async def test_a_command_that_nobody_waits_for_is_decided_all_the_same(shop: Shop) -> None:
    hall = await shop.event(price_minor=PRICE_MINOR)
    assert await shop.one.reserve([reserve(hall, 0)]) == []
    assert (await shop.tickets(hall))[0] == "HELD"
