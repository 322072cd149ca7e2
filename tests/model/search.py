"""Looks at every world that a scenario can come to, and at what must hold in it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.model.machine import BY_A_PERSON, KEEPS, LIVE, Machine, Scenario, World, start


@dataclass(frozen=True)
class Found:
    """What a search came to: how many worlds it saw, and the shortest way to the first that breaks a rule, if any."""

    worlds: int
    broken: str = ""
    way: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.broken} after {len(self.way)} moves: {'; '.join(self.way)}" if self.broken else "all is well"


def search(scenario: Scenario) -> Found:
    """Breadth first, so that the way to a broken world is a shortest one."""
    machine = Machine(scenario)
    first = start(scenario)
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    frontier = [first]
    while frontier:
        ahead: list[World] = []
        for world in frontier:
            if broken := next(_broken(machine, world), ""):
                return Found(len(came_from), broken, _way(came_from, world))
            for name, moved in (*machine.progress(world), *machine.mischief(world)):
                if broken := next(_forbidden(machine, world, name, moved), ""):
                    return Found(len(came_from), broken, (*_way(came_from, world), name))
                after = machine.canonical(moved)
                if after not in came_from:
                    came_from[after] = (world, name)
                    ahead.append(after)
        frontier = ahead
    return Found(len(came_from))


def _way(came_from: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    names: list[str] = []
    step = came_from[world]
    while step is not None:
        world, name = step
        names.append(name)
        step = came_from[world]
    return tuple(reversed(names))


def _broken(machine: Machine, world: World) -> Iterator[str]:
    """Rules that this world breaks."""
    scenario = machine.scenario
    live = [index for index, state in enumerate(world.reservations) if state in KEEPS]
    if any(scenario.carts[one] & scenario.carts[two] for one in live for two in live if one < two):
        yield "a ticket has two live reservations"
    for reservation, state in enumerate(world.reservations):
        yield from _broken_sums(machine, world, reservation, state)
    for (reservation, _), pay in zip(scenario.payments, world.pays, strict=True):
        if pay.charge in "CF" and pay.state == "R":
            yield "a rejected payment was charged"
        if pay.charge == "F" and pay.credit not in "DF":
            yield "money went back that was not due"
        if pay.credit == "A" and world.reservations[reservation] not in KEEPS:
            yield "money is kept without tickets"
    if all(after == world for _, after in machine.progress(world)):
        yield from _unsettled(machine, world)


def _forbidden(machine: Machine, world: World, name: str, after: World) -> Iterator[str]:
    """Rules that this move breaks, whatever it leads to."""
    for state, now in zip(world.reservations, after.reservations, strict=True):
        if state == "C" and now != "C" and not name.startswith(BY_A_PERSON):
            yield "a sale was taken back, and not by a person"
    for (reservation, _), pay, now_pay in zip(machine.scenario.payments, world.pays, after.pays, strict=True):
        if pay.credit == "-" and now_pay.credit == "O" and world.reservations[reservation] not in LIVE:
            yield "a payment was opened without a live hold"


def _broken_sums(machine: Machine, world: World, reservation: int, state: str) -> Iterator[str]:
    total = machine.scenario.totals[reservation]
    applied = sum(
        amount
        for (owner, amount), pay in zip(machine.scenario.payments, world.pays, strict=True)
        if owner == reservation and pay.credit == "A"
    )
    opened = sum(
        amount
        for (owner, amount), pay in zip(machine.scenario.payments, world.pays, strict=True)
        if owner == reservation and pay.credit == "O"
    )
    if state in KEEPS and opened + applied > total:
        yield "open and applied exceed the total"
    if world.paid[reservation] != applied:
        yield "what counts as paid is not what was applied"
    if (state == "C") != (state in KEEPS and applied == total):
        yield "confirmed is not the same as paid"


def _unsettled(machine: Machine, world: World) -> Iterator[str]:
    """At the end of everything each charge is a ticket or a refund, and nobody waits for anything."""
    for (reservation, _), pay in zip(machine.scenario.payments, world.pays, strict=True):
        sold = pay.credit == "A" and pay.state == "A" and world.reservations[reservation] == "C"
        gone_back = pay.credit == "F" and pay.state == "F"
        if pay.charge == "C" and not sold:
            yield "at the end a charge is neither a ticket nor a refund"
        if pay.charge == "F" and not gone_back:
            yield "at the end a refund is not known everywhere"
        if pay.credit in "OD" or pay.state in "POD":
            yield "at the end a payment is not decided"
    if any(state in LIVE for state in world.reservations):
        yield "at the end tickets are held"
