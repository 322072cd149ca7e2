"""WatchTickets: the whole event in chunks, then its changes, shared by all who watch it."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from prometheus_client import REGISTRY

from chassis import patience
from contract import reasons
from gateway import feed as feed_module
from gateway import seat_map as seat_map_module
from gateway.seat_map import SeatMap, coalesce_s
from tests.chassis.broker import until
from tests.chassis.proxy import Proxy
from tests.gateway.answers import reason_of
from tests.gateway.consumers import Consumers
from tests.gateway.facts import reservation, tell, tell_tickets_changed
from tests.gateway.requests import new_id
from tests.gateway.running import Gateway
from tests.gateway.servicer import Owner
from ticketrush.v1 import ticketing_pb2 as pb

AVAILABLE = pb.Ticket.STATE_AVAILABLE
HELD = pb.Ticket.STATE_HELD
SOLD = pb.Ticket.STATE_SOLD
# Less than the interval after which a seat map is read again by itself.
SOON_S = 10


class Watch:
    """A stream of one event's tickets, and the seat map that its reader keeps."""

    def __init__(self, gateway: Gateway, event_id: str) -> None:
        self.call = gateway.ticketing.WatchTickets(pb.WatchTicketsRequest(event_id=event_id))
        self.tickets: dict[str, pb.Ticket] = {}

    async def next(self) -> pb.WatchTicketsResponse:
        async with asyncio.timeout(SOON_S):
            message = await self.call.read()
        assert isinstance(message, pb.WatchTicketsResponse)
        for ticket in message.tickets:
            known = self.tickets.get(ticket.ticket_id)
            if known is None or known.version < ticket.version:
                self.tickets[ticket.ticket_id] = ticket
        return message

    async def whole(self) -> list[pb.WatchTicketsResponse]:
        """The messages of the snapshot."""
        messages = [await self.next()]
        while not messages[-1].snapshot_complete:
            messages.append(await self.next())
        return messages

    async def fails(self) -> grpc.aio.AioRpcError:
        """How it ends, after whatever was still on its way."""
        async with asyncio.timeout(SOON_S):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await self._rest()
        return failed.value

    async def _rest(self) -> None:
        while await self.call.read() is not grpc.aio.EOF:
            pass


def event_of(owner: Owner, count: int) -> str:
    """A new event with this many available tickets."""
    event_id = new_id()
    owner.tickets[event_id] = [ticket(f"{place:06}") for place in range(count)]
    return event_id


def ticket(ticket_id: str, version: int = 1, state: "pb.Ticket.State.ValueType" = AVAILABLE) -> pb.Ticket:
    return pb.Ticket(ticket_id=ticket_id, section="stalls", row="1", seat=ticket_id, version=version, state=state)


async def tell_tickets(consumers: Consumers, event_id: str, *tickets: pb.Ticket) -> None:
    """A hold began on these tickets."""
    await tell(consumers, reservation(1, pb.Reservation.STATE_HELD, event_id=event_id, tickets=tickets))


@pytest.mark.parametrize(("count", "chunks"), [(0, [0]), (1, [1]), (1000, [1000]), (2001, [1000, 1000, 1])])
async def test_the_whole_event_comes_in_chunks_the_last_of_which_completes_it(
    gateway: Gateway, owner: Owner, count: int, chunks: list[int]
) -> None:
    watch = Watch(gateway, event_of(owner, count))
    messages = await watch.whole()
    assert [len(message.tickets) for message in messages] == chunks
    assert list(watch.tickets) == [f"{place:06}" for place in range(count)]


async def test_changes_follow_the_whole(gateway: Gateway, owner: Owner, consumers: Consumers) -> None:
    event_id = event_of(owner, 3)
    watch = Watch(gateway, event_id)
    await watch.whole()
    changed = ticket("000001", version=2, state=HELD)
    await tell_tickets(consumers, event_id, changed)
    assert await watch.next() == pb.WatchTicketsResponse(tickets=[changed], snapshot_complete=True)


async def test_the_higher_version_wins(gateway: Gateway, owner: Owner, consumers: Consumers) -> None:
    event_id = event_of(owner, 3)
    watch = Watch(gateway, event_id)
    await watch.whole()
    sold, late = ticket("000001", version=3, state=SOLD), ticket("000001", version=2, state=HELD)
    other = ticket("000002", version=2, state=HELD)
    for change in (sold, late, other):
        await tell_tickets(consumers, event_id, change)
    while "000002" not in {changed.ticket_id for changed in (await watch.next()).tickets}:
        pass
    assert watch.tickets["000001"] == sold
    assert list((await snapshot_of_another(gateway, event_id)).values()) == [ticket("000000"), sold, other]


async def snapshot_of_another(gateway: Gateway, event_id: str) -> dict[str, pb.Ticket]:
    """What somebody who begins to watch now is shown."""
    watch = Watch(gateway, event_id)
    await watch.whole()
    return watch.tickets


async def test_those_who_watch_one_event_share_one_read(gateway: Gateway, owner: Owner, consumers: Consumers) -> None:
    event_id = event_of(owner, 1500)
    watches = [Watch(gateway, event_id) for _ in range(5)]
    for watch in watches:
        await watch.whole()
    assert owner.asked.count("ListTickets") == 2, "one for each page"
    await tell_tickets(consumers, event_id, ticket("000001", version=2, state=HELD))
    assert len({(await watch.next()).SerializeToString() for watch in watches}) == 1


async def test_an_event_nobody_watches_any_more_is_forgotten(gateway: Gateway, owner: Owner) -> None:
    event_id = event_of(owner, 1)
    watch = Watch(gateway, event_id)
    await watch.whole()
    watch.call.cancel()
    await until(lambda: streams() == 0)
    await snapshot_of_another(gateway, event_id)
    assert owner.asked.count("ListTickets") == 2


def streams() -> float:
    return REGISTRY.get_sample_value("ticketrush_gateway_streams") or 0.0


async def test_a_change_between_subscribing_and_reading_is_seen(
    gateway: Gateway, owner: Owner, consumers: Consumers
) -> None:
    event_id, witnessed = event_of(owner, 1), event_of(owner, 1)
    witness = Watch(gateway, witnessed)
    await witness.whole()

    async def change_before_the_answer() -> None:
        owner.before_answer = None
        await tell_tickets(consumers, event_id, ticket("000000", version=2, state=HELD))
        # Facts come in order: once this one is seen, the other has been heard.
        await tell_tickets(consumers, witnessed, ticket("000000", version=2, state=HELD))
        await witness.next()

    owner.before_answer = change_before_the_answer
    watch = Watch(gateway, event_id)
    await watch.whole()
    assert watch.tickets["000000"].state == HELD


async def test_tickets_that_are_added_are_shown(gateway: Gateway, owner: Owner, consumers: Consumers) -> None:
    event_id = event_of(owner, 1)
    watch = Watch(gateway, event_id)
    await watch.whole()
    owner.tickets[event_id].append(ticket("000001"))
    await tell_tickets_changed(consumers, event_id)
    assert list((await watch.next()).tickets) == [ticket("000001")]


async def test_a_change_while_the_gateway_was_cut_off_is_seen_after_its_reconnect(
    gateway: Gateway, owner: Owner, wire: Proxy
) -> None:
    event_id = event_of(owner, 1)
    watch = Watch(gateway, event_id)
    await watch.whole()
    wire.refuse()
    await until(lambda: not gateway.is_ready())
    owner.tickets[event_id] = [ticket("000000", version=2, state=SOLD)]
    wire.accept()
    assert list((await watch.next()).tickets) == owner.tickets[event_id]
    await until(gateway.is_ready)


async def test_an_unknown_event_is_not_found_and_may_be_watched_once_it_exists(gateway: Gateway, owner: Owner) -> None:
    event_id = new_id()
    error = await Watch(gateway, event_id).fails()
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(error) == reasons.UNKNOWN_EVENT
    owner.tickets[event_id] = [ticket("000000")]
    assert len(await snapshot_of_another(gateway, event_id)) == 1


async def test_an_owner_that_stays_away_ends_the_streams(
    gateway: Gateway, owner: Owner, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat_map_module, "STALE_MAX_S", 0.0)
    event_id = event_of(owner, 1)
    watch = Watch(gateway, event_id)
    await watch.whole()
    owner.failures_left = 1_000
    await tell_tickets_changed(consumers, event_id)
    error = await watch.fails()
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_reader_that_cannot_keep_up_is_ended_and_the_others_go_on(
    gateway: Gateway, owner: Owner, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat_map_module, "COALESCE_S", 0.001)
    monkeypatch.setattr(seat_map_module, "CHANGES_MAX", 3)
    event_id = event_of(owner, 1)
    slow, quick = Watch(gateway, event_id), Watch(gateway, event_id)
    await slow.whole()
    await quick.whole()
    before, version = slow_readers(), 1
    while slow_readers() == before:
        version += 1
        # Large enough to fill what lies between the gateway and a reader that does not read.
        large = [ticket(f"{'0' * 1000}{place}", version=version, state=HELD) for place in range(300)]
        await tell_tickets(consumers, event_id, *large)
        await quick.next()
    error = await slow.fails()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(error) == "SLOW_READER"
    await tell_tickets(consumers, event_id, ticket("000000", version=9, state=SOLD))
    assert [changed.version for changed in (await quick.next()).tickets] == [9]


async def test_a_reader_that_takes_nothing_is_ended_without_being_waited_for(
    gateway: Gateway, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "STALLED_MAX_S", 1.0)
    event_id = new_id()
    # Many times what lies between the gateway and a reader that does not read.
    owner.tickets[event_id] = [ticket(f"{place:06}{'0' * 1_000}") for place in range(20_000)]
    idle, quick = Watch(gateway, event_id), Watch(gateway, event_id)
    await until(lambda: open_streams() == 2)
    await quick.whole()
    await until(lambda: open_streams() == 1)
    error = await idle.fails()
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_READER")
    assert idle.call.done()
    assert not quick.call.done()


def open_streams() -> float:
    return REGISTRY.get_sample_value("ticketrush_gateway_streams") or 0.0


def slow_readers() -> float:
    return REGISTRY.get_sample_value("ticketrush_gateway_slow_readers_total") or 0.0


async def test_one_stream_too_many_is_refused_and_a_place_given_back_is_free(
    gateway: Gateway, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = event_of(owner, 1)
    watch = Watch(gateway, event_id)
    await watch.whole()
    monkeypatch.setattr(feed_module, "STREAMS_MAX", 1)
    error = await Watch(gateway, event_id).fails()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(error) == "TOO_MANY_STREAMS"
    watch.call.cancel()
    await until(lambda: streams() == 0)
    await snapshot_of_another(gateway, event_id)


async def test_streams_are_told_to_watch_again_when_the_gateway_stops(gateway: Gateway, owner: Owner) -> None:
    event_id = event_of(owner, 1)
    watch = Watch(gateway, event_id)
    await watch.whole()
    await gateway.drain()
    error = await watch.fails()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(error) == "GATEWAY_STOPPING"


async def test_changes_of_one_moment_travel_together() -> None:
    async def read(_: str) -> AsyncIterator[list[pb.Ticket]]:
        yield [ticket(f"{place:06}") for place in range(3)]

    seat_map = SeatMap(new_id(), read)
    await seat_map.ready()
    with seat_map.joined() as (_, changes):
        for version in range(2, 50):
            seat_map.take([ticket("000000", version=version), ticket("000001", version=version)])
        told = pb.WatchTicketsResponse.FromString(await changes.next())
        seat_map.close()
    assert [changed.version for changed in told.tickets] == [49, 49]


def test_the_more_watch_the_longer_changes_are_collected() -> None:
    assert [coalesce_s(streams) for streams in (1, 100, 2_000, 5_000)] == [0.05, 0.05, 1.0, 2.5]


async def test_a_seat_map_collects_changes_for_as_long_as_its_streams_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def read(_: str) -> AsyncIterator[list[pb.Ticket]]:
        yield [ticket("000000")]

    asked: list[int] = []

    def at_once(streams: int) -> float:
        asked.append(streams)
        return 0.0

    monkeypatch.setattr(seat_map_module, "coalesce_s", at_once)
    seat_map = SeatMap(new_id(), read)
    await seat_map.ready()
    with seat_map.joined(), seat_map.joined() as (_, changes):
        seat_map.take([ticket("000000", version=2)])
        await changes.next()
        seat_map.close()
    assert asked == [2]
