"""WatchReservation: the present state, then every change, none missed in between."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from contract import reasons
from gateway import reservation_watch as watch_module
from tests.chassis.broker import until
from tests.chassis.proxy import Proxy
from tests.gateway.answers import reason_of
from tests.gateway.consumers import Consumers
from tests.gateway.facts import reservation, tell, tell_money_changed
from tests.gateway.requests import new_id, reserve
from tests.gateway.running import Gateway
from tests.gateway.servicer import Owner
from ticketrush.v1 import ticketing_pb2 as pb

HELD = pb.Reservation.STATE_HELD
PARTIALLY_PAID = pb.Reservation.STATE_PARTIALLY_PAID
CONFIRMED = pb.Reservation.STATE_CONFIRMED
REJECTED = pb.Reservation.STATE_REJECTED
EXPIRED = pb.Reservation.STATE_EXPIRED
CANCELLED = pb.Reservation.STATE_CANCELLED
# Less than the interval after which a watch reads again by itself.
SOON_S = 5


class Watch:
    """A stream of one reservation."""

    def __init__(self, gateway: Gateway, reservation_id: str) -> None:
        self.call = gateway.ticketing.WatchReservation(pb.WatchReservationRequest(reservation_id=reservation_id))

    async def next(self) -> pb.Reservation:
        async with asyncio.timeout(SOON_S):
            message = await self.call.read()
        assert isinstance(message, pb.WatchReservationResponse)
        return message.reservation

    async def ends(self) -> None:
        """With OK, and without another message."""
        async with asyncio.timeout(SOON_S):
            assert await self.call.read() is grpc.aio.EOF
            assert await self.call.code() is grpc.StatusCode.OK

    async def fails(self) -> grpc.aio.AioRpcError:
        async with asyncio.timeout(SOON_S):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await self.call.read()
        return failed.value


@pytest.fixture
def first(owner: Owner) -> pb.Reservation:
    """A held reservation that its owner knows."""
    return stored(owner, reservation(1, HELD))


def stored(owner: Owner, present: pb.Reservation) -> pb.Reservation:
    owner.reservations[present.reservation_id] = present
    return present


async def test_shows_what_is_and_then_each_change_to_the_end(
    gateway: Gateway, consumers: Consumers, first: pb.Reservation
) -> None:
    watch = Watch(gateway, first.reservation_id.upper())
    assert await watch.next() == first
    for version, state in ((2, PARTIALLY_PAID), (3, CONFIRMED), (4, CANCELLED)):
        await tell(consumers, reservation(version, state, of=first.reservation_id))
        assert (await watch.next()).state == state
    await watch.ends()


@pytest.mark.parametrize("state", [REJECTED, CANCELLED, EXPIRED])
async def test_ends_at_once_where_nothing_can_change_any_more(
    gateway: Gateway, owner: Owner, state: "pb.Reservation.State.ValueType"
) -> None:
    present = stored(owner, reservation(3, state))
    watch = Watch(gateway, present.reservation_id)
    assert await watch.next() == present
    await watch.ends()


async def test_an_expired_hold_is_watched_until_no_charge_is_under_way(
    gateway: Gateway, owner: Owner, consumers: Consumers
) -> None:
    present = stored(owner, reservation(3, EXPIRED, open_minor=500))
    watch = Watch(gateway, present.reservation_id)
    assert await watch.next() == present
    settled = reservation(4, EXPIRED, of=present.reservation_id)
    await tell_money_changed(consumers, settled)
    assert await watch.next() == settled
    await watch.ends()


async def test_a_change_between_subscribing_and_reading_is_seen(
    gateway: Gateway, owner: Owner, consumers: Consumers, first: pb.Reservation
) -> None:
    arrived = await witness(gateway, owner, consumers)

    async def change_before_the_answer() -> None:
        owner.before_answer = None
        await tell(consumers, reservation(2, CONFIRMED, of=first.reservation_id))
        await anext(arrived)

    owner.before_answer = change_before_the_answer
    watch = Watch(gateway, first.reservation_id)
    assert await watch.next() == first
    assert (await watch.next()).state == CONFIRMED


async def witness(gateway: Gateway, owner: Owner, consumers: Consumers) -> AsyncIterator[None]:
    """Each step returns when the gateway has heard all that was told so far: facts come in order."""
    present = stored(owner, reservation(1, HELD))
    watch = Watch(gateway, present.reservation_id)
    await watch.next()

    async def steps() -> AsyncIterator[None]:
        for version in range(2, 100):
            await tell_money_changed(consumers, reservation(version, HELD, of=present.reservation_id))
            await watch.next()
            yield

    return steps()


async def test_facts_that_overtook_each_other_are_shown_in_order(
    gateway: Gateway, consumers: Consumers, first: pb.Reservation
) -> None:
    watch = Watch(gateway, first.reservation_id)
    await watch.next()
    for version, state in ((4, CANCELLED), (3, CONFIRMED), (2, PARTIALLY_PAID)):
        await tell(consumers, reservation(version, state, of=first.reservation_id))
    assert [(await watch.next()).version for _ in range(3)] == [2, 3, 4]


async def test_a_version_that_no_fact_tells_holds_up_nothing_for_long_and_versions_only_grow(
    gateway: Gateway, consumers: Consumers, first: pb.Reservation
) -> None:
    watch = Watch(gateway, first.reservation_id)
    await watch.next()
    await tell(consumers, reservation(3, CONFIRMED, of=first.reservation_id))
    assert (await watch.next()).version == 3
    for version, state in ((2, PARTIALLY_PAID), (3, CONFIRMED), (4, CANCELLED)):
        await tell(consumers, reservation(version, state, of=first.reservation_id))
    assert (await watch.next()).version == 4


async def test_what_is_only_pending_here_is_shown_first_and_its_decision_next(
    gateway: Gateway, consumers: Consumers
) -> None:
    pending = (await gateway.ticketing.Reserve(reserve(wait=Duration()))).reservation
    watch = Watch(gateway, pending.reservation_id)
    assert await watch.next() == pending
    await tell(consumers, reservation(1, REJECTED, of=pending.reservation_id))
    assert (await watch.next()).state == REJECTED
    await watch.ends()


async def test_an_unknown_reservation_is_not_found(gateway: Gateway) -> None:
    error = await Watch(gateway, new_id()).fails()
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(error) == reasons.UNKNOWN_RESERVATION


async def test_a_change_while_the_gateway_was_cut_off_is_seen_after_its_reconnect(
    gateway: Gateway, owner: Owner, consumers: Consumers, wire: Proxy, first: pb.Reservation
) -> None:
    watch = Watch(gateway, first.reservation_id)
    await watch.next()
    wire.refuse()
    await until(lambda: not gateway.is_ready())
    stored(owner, reservation(2, PARTIALLY_PAID, of=first.reservation_id))
    wire.accept()
    assert (await watch.next()).state == PARTIALLY_PAID
    await until(gateway.is_ready)
    await tell(consumers, reservation(3, CONFIRMED, of=first.reservation_id))
    assert (await watch.next()).state == CONFIRMED


async def test_a_change_nobody_told_is_seen_by_reading_now_and_then(
    gateway: Gateway, owner: Owner, first: pb.Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "REREAD_INTERVAL_S", 0.05)
    watch = Watch(gateway, first.reservation_id)
    await watch.next()
    stored(owner, reservation(2, CONFIRMED, of=first.reservation_id))
    assert (await watch.next()).state == CONFIRMED


async def test_an_owner_that_is_away_for_a_while_ends_no_stream(
    gateway: Gateway, owner: Owner, first: pb.Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "REREAD_INTERVAL_S", 0.05)
    monkeypatch.setattr(watch_module, "RETRY_INTERVAL_S", 0.05)
    watch = Watch(gateway, first.reservation_id)
    await watch.next()
    owner.failures_left = 6
    stored(owner, reservation(2, CONFIRMED, of=first.reservation_id))
    assert (await watch.next()).state == CONFIRMED


async def test_an_owner_that_stays_away_ends_the_stream(
    gateway: Gateway, owner: Owner, first: pb.Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "REREAD_INTERVAL_S", 0.05)
    monkeypatch.setattr(watch_module, "STALE_MAX_S", 0.0)
    watch = Watch(gateway, first.reservation_id)
    await watch.next()
    owner.failures_left = 1_000
    error = await watch.fails()
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_streams_are_told_to_watch_again_when_the_gateway_stops(gateway: Gateway, first: pb.Reservation) -> None:
    watch = Watch(gateway, first.reservation_id)
    await watch.next()
    await gateway.drain()
    for ended in (watch, Watch(gateway, first.reservation_id)):
        error = await ended.fails()
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(error) == "GATEWAY_STOPPING"
