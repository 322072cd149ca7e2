"""The tickets of an event while they change: a table that stays current, or a line for each change."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli import show
from cli.printable import printable
from ticketrush.v1 import ticketing_pb2 as pb

REFRESHES_PER_S: Final = 4
CHANGES_SHOWN_MAX: Final = 10
# Title, heads, blank lines, and what a shell wants for its prompt.
_OTHER_LINES: Final = 7
_COLUMNS: Final = (pb.Ticket.STATE_AVAILABLE, pb.Ticket.STATE_HELD, pb.Ticket.STATE_SOLD, pb.Ticket.STATE_WITHDRAWN)


class Seats:
    """The newest that is known of each ticket."""

    def __init__(self) -> None:
        self._tickets: dict[str, pb.Ticket] = {}
        self._counts: dict[str, Counter[int]] = {}
        self.is_complete = False

    def take(self, message: pb.WatchTicketsResponse) -> Iterator[tuple[pb.Ticket, pb.Ticket | None]]:
        """Takes what is newer, and tells what changed: the ticket, and as it was if it was known.

        Tells nothing of the first snapshot; of a later one only what had been missed.
        """
        was_complete = self.is_complete
        for ticket in message.tickets:
            before = self._tickets.get(ticket.ticket_id)
            if before is not None and before.version >= ticket.version:
                continue
            self._tickets[ticket.ticket_id] = ticket
            counts = self._counts.setdefault(ticket.section, Counter())
            counts[ticket.state] += 1
            if before is not None:
                counts[before.state] -= 1
            if was_complete:
                yield ticket, before
        self.is_complete = was_complete or message.snapshot_complete

    def sections(self) -> list[tuple[str, Counter[int]]]:
        """How many tickets of each section are in each state."""
        return sorted(self._counts.items())


def follow(messages: Iterable[pb.WatchTicketsResponse], name: str) -> None:
    """Shows what the gateway tells of an event's tickets, until it ends."""
    console = show.console()
    if console.is_interactive:
        _follow_live(messages, name, console)
    else:
        _follow_in_lines(messages, console)


def _follow_in_lines(messages: Iterable[pb.WatchTicketsResponse], console: Console) -> None:
    seats = Seats()
    for message in messages:
        was_complete = seats.is_complete
        for ticket, before in seats.take(message):
            line = _change(ticket, before).append(f"  {printable(ticket.ticket_id)}")
            console.print(line, soft_wrap=True)
        if seats.is_complete and not was_complete:
            for section, counts in seats.sections():
                figures = ", ".join(f"{counts[state]} {_word(state)}" for state in _COLUMNS if counts[state])
                console.print(Text(f"{_now()}  {printable(section)}: {figures}"), soft_wrap=True)


def _follow_live(messages: Iterable[pb.WatchTicketsResponse], name: str, console: Console) -> None:
    seats = Seats()
    changes: deque[Text] = deque(maxlen=CHANGES_SHOWN_MAX)
    with Live(Text("..."), console=console, refresh_per_second=REFRESHES_PER_S) as live:
        for message in messages:
            changes.extend(_change(ticket, before) for ticket, before in seats.take(message))
            if seats.is_complete:
                live.update(picture(seats, changes, name, console.height))


def picture(seats: Seats, changes: Iterable[Text], name: str, height: int) -> Group:
    """Sections first: they have the space that the terminal has, the newest changes what is left."""
    sections = seats.sections()
    total = sum((counts for _, counts in sections), Counter[int]())
    states = [state for state in _COLUMNS if state != pb.Ticket.STATE_WITHDRAWN or total[state]]
    table = Table("section", box=None)
    for state in states:
        table.add_column(_word(state), justify="right", no_wrap=True)
    room = max(height - _OTHER_LINES, 1)
    for section, counts in sections[:room]:
        table.add_row(Text(printable(section)), *(str(counts[state]) for state in states))
    if len(sections) > 1:
        table.add_row("all", *(str(total[state]) for state in states), style="bold")
    left = max(room - len(sections), 1)
    title = Text(printable(name), style="bold", no_wrap=True, overflow="ellipsis")
    newest = list(changes)[-left:]
    for line in newest:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(title, table, Text(), *newest, Text("Ctrl-C ends", style="dim"))


def _change(ticket: pb.Ticket, before: pb.Ticket | None) -> Text:
    line = Text(f"{_now()}  {printable(show.seat(ticket))}  ").append_text(show.ticket_state(ticket))
    return line.append(f"  was {_word(before.state)}" if before else "  is new")


def _word(state: "pb.Ticket.State.ValueType") -> str:
    return pb.Ticket.State.Name(state).removeprefix("STATE_").lower()


def _now() -> str:
    return f"{datetime.now().astimezone():%H:%M:%S}"
