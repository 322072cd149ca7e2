"""Who watches what: hands each fact to those who watch its reservation, and to the seat map of its event."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gateway.feed import Feed, stopping
from gateway.seat_map import ReadTickets, SeatMap
from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.v1 import ticketing_pb2 as pb

# More than a reservation changes in its whole life.
CHANGES_MAX: Final = 256

ReservationFeed = Feed[pb.Reservation | None]
"""Reservations as facts tell them; None when facts may have been missed, so that only reading tells."""


class Hub:
    """`take` is given every fact, `doubt` is called when some may have been missed."""

    def __init__(self, read_tickets: ReadTickets) -> None:
        self._read_tickets = read_tickets
        self._feeds: dict[str, set[ReservationFeed]] = {}
        self._seat_maps: dict[str, SeatMap] = {}
        self._users: dict[SeatMap, int] = {}
        self._stopping = False

    @contextmanager
    def reservation(self, reservation_id: str) -> Iterator[ReservationFeed]:
        """What facts say of the reservation from now on. Raises CallError when the gateway stops."""
        self._refuse_when_stopping()
        feed = ReservationFeed(CHANGES_MAX)
        feeds = self._feeds.setdefault(reservation_id, set())
        feeds.add(feed)
        try:
            yield feed
        finally:
            feeds.discard(feed)
            if not feeds and self._feeds.get(reservation_id) is feeds:
                del self._feeds[reservation_id]

    @contextmanager
    def seat_map(self, event_id: str) -> Iterator[SeatMap]:
        """The seat map of the event, shared by all who watch it. Raises CallError when the gateway stops."""
        self._refuse_when_stopping()
        seat_map = self._seat_maps.get(event_id)
        if seat_map is None or seat_map.ended:
            seat_map = self._seat_maps[event_id] = SeatMap(event_id, self._read_tickets)
        self._users[seat_map] = self._users.get(seat_map, 0) + 1
        try:
            yield seat_map
        finally:
            self._leave(event_id, seat_map)

    def take(self, envelope: messages.Envelope) -> None:
        """Passes one fact on."""
        match envelope.WhichOneof("payload"):
            case "tickets_reserved":
                self._changed(envelope.tickets_reserved.reservation)
            case "reservation_rejected":
                self._changed(envelope.reservation_rejected.reservation)
            case "tickets_partially_paid":
                self._changed(envelope.tickets_partially_paid.reservation)
            case "tickets_sold":
                self._changed(envelope.tickets_sold.reservation)
            case "tickets_cancelled":
                self._changed(envelope.tickets_cancelled.reservation)
            case "tickets_expired":
                self._changed(envelope.tickets_expired.reservation)
            case "reservation_updated":
                self._changed(envelope.reservation_updated.reservation)
            case "event_updated" if envelope.event_updated.tickets_changed:
                if seat_map := self._seat_maps.get(envelope.event_updated.event.event_id):
                    seat_map.doubt()

    def doubt(self) -> None:
        """Facts may have been missed: whatever is watched is read again."""
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.offer(None)
        for seat_map in self._seat_maps.values():
            seat_map.doubt()

    async def stop(self) -> None:
        """Ends every stream as UNAVAILABLE and admits no more."""
        self._stopping = True
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.end(stopping())
        for seat_map in self._seat_maps.values():
            seat_map.end(stopping())

    def _changed(self, reservation: pb.Reservation) -> None:
        for feed in self._feeds.get(reservation.reservation_id, ()):
            feed.offer(reservation)
        if seat_map := self._seat_maps.get(reservation.event_id):
            seat_map.take(reservation.tickets)

    def _leave(self, event_id: str, seat_map: SeatMap) -> None:
        self._users[seat_map] -= 1
        if self._users[seat_map] == 0:
            del self._users[seat_map]
            seat_map.close()
            if self._seat_maps.get(event_id) is seat_map:
                del self._seat_maps[event_id]

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise stopping()
