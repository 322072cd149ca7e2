"""Tickets: none held or sold twice, none forgotten, all of a cart or nothing of it."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from chaos.checker.evidence import Evidence, Violation

NEVER_TWICE: Final = "no ticket is held or sold twice"
AS_HELD: Final = "a ticket is what its reservation makes it"
ALL_OR_NOTHING: Final = "a cart is held whole or not at all"
COUNTED: Final = "counts and allowances are those of the tickets"

_KEEPS: Final = {"HELD": "HELD", "PARTIALLY_PAID": "HELD", "CONFIRMED": "SOLD"}


def check(evidence: Evidence) -> Iterator[Violation]:
    """Every rule about tickets."""
    holders: dict[str, list[str]] = defaultdict(list)
    for held in evidence.books.held:
        row = evidence.reservations.get(held.reservation_id)
        keeps = row is not None and row.state in _KEEPS
        if keeps:
            holders[held.ticket_id].append(held.reservation_id)
        if keeps != held.live:
            state = row.state if row else "unknown"
            yield Violation(
                ALL_OR_NOTHING,
                f"{held.reservation_id} is {state} and {'keeps' if held.live else 'does not keep'} {held.ticket_id}",
            )
    for ticket in evidence.books.tickets:
        owners = holders.pop(ticket.ticket_id, [])
        if len(owners) > 1:
            yield Violation(NEVER_TWICE, f"{ticket.ticket_id} belongs to {' and '.join(sorted(owners))}")
        elif ticket.state not in _states(evidence, owners):
            yield Violation(AS_HELD, f"{ticket.ticket_id} is {ticket.state}, held by {owners or 'nobody'}")
    for ticket_id, owners in holders.items():
        yield Violation(AS_HELD, f"{ticket_id} of {owners[0]} does not exist")
    yield from _counted(evidence)


def _states(evidence: Evidence, owners: list[str]) -> set[str]:
    return {_KEEPS[evidence.reservations[owners[0]].state]} if owners else {"AVAILABLE", "WITHDRAWN"}


def _counted(evidence: Evidence) -> Iterator[Violation]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for ticket in evidence.books.tickets:
        found[ticket.event_id][ticket.state] += 1
    for event_id, counted in evidence.books.counts.items():
        states = found[event_id]
        there_are = (states["AVAILABLE"], states["HELD"], states["SOLD"])
        if counted != there_are:
            yield Violation(COUNTED, f"event {event_id} counts {counted}, there are {there_are}")
    owned: Counter[tuple[str, str]] = Counter()
    for held in evidence.books.held:
        row = evidence.reservations.get(held.reservation_id)
        if row is not None and row.state in _KEEPS:
            owned[row.event_id, row.buyer_id] += 1
    for key in owned.keys() | evidence.books.allowances.keys():
        if owned[key] != evidence.books.allowances.get(key, 0):
            counted_for = evidence.books.allowances.get(key, 0)
            yield Violation(COUNTED, f"{key[1]} has {owned[key]} tickets of {key[0]}, {counted_for} are counted")
