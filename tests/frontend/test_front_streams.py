"""Streams as lines of JSON and as events for browsers; one stream of the gateway for each event, whoever watches."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from chassis.server import STREAMS_PER_CONNECTION_MAX
from tests.e2e.house import House
from tests.e2e.office import eventually
from tests.frontend.visitors import EVENTS, Refused, Visitors, found, new_id, refused, told

BROWSERS = 40


@pytest.fixture(autouse=True)
async def _nobody_watches_at_the_end(house: House) -> AsyncIterator[None]:
    yield
    await until_streams(house, upstream=0, browsers=0)


async def until_streams(house: House, *, upstream: int, browsers: int) -> None:
    """Returns when the gateway, and the front, have so many open."""

    async def so_many() -> bool:
        here = await house.figure("frontend", "ticketrush_frontend_streams")
        return (await house.figure("gateway", "ticketrush_gateway_streams"), here) == (upstream, browsers)

    await eventually(so_many, lambda: f"there are not {upstream} and {browsers}")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/x-ndjson"),
        ("application/json", "application/x-ndjson"),
        ("text/event-stream", "text/event-stream"),
        ("text/html, text/event-stream;q=0.9", "text/event-stream"),
    ],
)
async def test_a_seat_map_comes_whole_and_then_as_it_changes(visitors: Visitors, accept: str | None, kind: str) -> None:
    event_id, tickets = await visitors.put_on_sale(5)
    headers = {"accept": accept} if accept else {}
    async with visitors.watching(f"/v1/events/{event_id}/tickets:watch", headers) as stream:
        assert stream.response.headers["content-type"] == kind
        seats = await stream.seats()
        assert sorted(seats) == tickets
        assert {seat["state"] for seat in seats.values()} == {"STATE_AVAILABLE"}
        await visitors.held(event_id, tickets[:1], "ada")
        await stream.becomes(tickets[0], "STATE_HELD")


async def test_an_event_without_tickets_has_a_seat_map_too(visitors: Visitors) -> None:
    body = {"request_id": new_id(), "event": {"name": "Later", "currency": "EUR"}}
    made = await visitors.post("/v1/events", body, visitors.as_("organiser", "olga"))
    path = f"/v1/events/{made.json()['event']['event_id']}/tickets:watch"
    async with visitors.watching(path, EVENTS) as stream:
        assert await stream.message() == {"tickets": [], "snapshot_complete": True}


async def test_many_browsers_take_one_stream_of_the_gateway_and_each_sees_every_change(
    house: House, visitors: Visitors
) -> None:
    event_id, tickets = await visitors.put_on_sale(3)
    path = f"/v1/events/{event_id}/tickets:watch"
    async with AsyncExitStack() as all_of_them:
        streams = [
            await all_of_them.enter_async_context(visitors.watching(path, EVENTS if number % 2 else None))
            for number in range(BROWSERS)
        ]
        for stream in streams:
            assert sorted(await stream.seats()) == tickets
        await until_streams(house, upstream=1, browsers=BROWSERS)
        await visitors.held(event_id, tickets[1:2], "ada")
        await asyncio.gather(*(stream.becomes(tickets[1], "STATE_HELD") for stream in streams))
        # Who comes later is told how it is now.
        async with visitors.watching(path) as late:
            seats = await late.seats()
            assert [ticket for ticket in tickets if seats[ticket]["state"] == "STATE_HELD"] == tickets[1:2]
        await until_streams(house, upstream=1, browsers=BROWSERS)


async def test_a_token_that_is_brought_along_must_be_good_though_none_is_needed(visitors: Visitors) -> None:
    event_id, _ = await visitors.put_on_sale(1)
    path = f"/v1/events/{event_id}/tickets:watch"
    async with visitors.watching(path, visitors.as_("buyer", "ada")) as stream:
        assert await stream.seats()
    assert refused(await visitors.get(path, {"authorization": "Bearer nonsense"})) == Refused(401, 16, "TOKEN_INVALID")


async def test_a_watch_of_what_is_not_there_is_refused_and_leaves_nothing_behind(visitors: Visitors) -> None:
    for headers in ({}, EVENTS, visitors.as_("buyer", "ada")):
        response = await visitors.get(f"/v1/events/{new_id()}/tickets:watch", headers)
        assert refused(response) == Refused(404, 5, "UNKNOWN_EVENT")
    response = await visitors.get("/v1/events/nonsense/tickets:watch")
    assert refused(response) == Refused(400, 3, "INVALID_ARGUMENT", frozenset({"event_id"}))


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_reservation_is_watched_by_its_buyer_to_its_end(visitors: Visitors, accept: str) -> None:
    event_id, tickets = await visitors.put_on_sale(1)
    ada = visitors.as_("buyer", "ada")
    reservation = await visitors.held(event_id, tickets, "ada")
    path = f"/v1/reservations/{reservation}"
    async with visitors.watching(f"{path}:watch", ada | {"accept": accept}) as stream:
        assert (await stream.message())["reservation"]["state"] == "STATE_HELD"
        await visitors.post(f"{path}:cancel", {"request_id": new_id(), "buyer_id": "ada"}, ada)
        assert (await stream.message())["reservation"]["state"] == "STATE_CANCELLED"
        if accept == "text/event-stream":
            # Otherwise a browser would come back and back.
            assert await stream.next() == ("end", {"code": 0, "message": "", "details": []})
        with pytest.raises(StopAsyncIteration):
            await stream.next()


async def test_more_watchers_than_the_gateway_takes_on_one_connection_keep_nobody_waiting(
    house: House, visitors: Visitors
) -> None:
    event_id, tickets = await visitors.put_on_sale(1)
    reservation = await visitors.held(event_id, tickets, "ada")
    host, _, port = house.stack.address("frontend").rpartition(":")
    head = f"GET /v1/reservations/{reservation}:watch HTTP/1.1\r\nhost: {host}\r\n"
    asked = f"{head}authorization: Bearer {house.stack.operator_token}\r\n\r\n".encode()
    writers: list[asyncio.StreamWriter] = []

    async def watches(few: asyncio.Semaphore) -> None:
        async with few:
            reader, writer = await asyncio.open_connection(host, int(port))
            writers.append(writer)
            writer.write(asked)
            await reader.readuntil(b"STATE_HELD")

    few = asyncio.Semaphore(BROWSERS)
    try:
        await asyncio.gather(*(watches(few) for _ in range(STREAMS_PER_CONNECTION_MAX + 1)))
        assert found(await visitors.get("/v1/events", page_size="1"))["events"]
    finally:
        for writer in writers:
            writer.transport.abort()


async def test_nobody_watches_the_reservation_of_another(visitors: Visitors) -> None:
    event_id, tickets = await visitors.put_on_sale(1)
    path = f"/v1/reservations/{await visitors.held(event_id, tickets, 'ada')}:watch"
    assert refused(await visitors.get(path, EVENTS)) == Refused(401, 16, "TOKEN_MISSING")
    response = await visitors.get(path, EVENTS | visitors.as_("buyer", "bob"))
    assert refused(response) == Refused(404, 5, "UNKNOWN_RESERVATION")


async def test_seat_maps_outlive_a_gateway_that_is_started_again(house: House, visitors: Visitors) -> None:
    event_id, tickets = await visitors.put_on_sale(2)
    reservation = await visitors.held(event_id, tickets[1:], "ada")
    ada = visitors.as_("buyer", "ada")
    async with (
        visitors.watching(f"/v1/events/{event_id}/tickets:watch", EVENTS) as stream,
        visitors.watching(f"/v1/reservations/{reservation}:watch", EVENTS | ada) as own,
    ):
        assert len(await stream.seats()) == 2
        await own.message()
        await house.kill("gateway")
        # One's own reservation is watched again; the map of all goes on by itself.
        assert told(await own.end())[:2] == (14, "GATEWAY_UNAVAILABLE")
        response = await visitors.get("/v1/events")
        assert refused(response) == Refused(503, 14, "GATEWAY_UNAVAILABLE")
        assert response.headers["retry-after"] == "1"
        assert (await visitors.get("/readyz")).status_code == 503
        await house.up("gateway")

        async def again() -> bool:
            return (await visitors.get("/readyz")).status_code == 200

        await eventually(again, lambda: "it does not find the gateway")
        await visitors.held(event_id, tickets[:1], "ada")
        await stream.becomes(tickets[0], "STATE_HELD")
