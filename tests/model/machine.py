"""The state machine of docs/states.md as a model: small enough to look at every state there is.

It stands apart from the code on purpose, and is the yardstick for it. A world is what reservations, payments, the
provider and the wire hold at one instant. A message that was said stays on the wire until it is lost: so it may arrive
late, out of order, and any number of times. A call whose reply is lost has had its effect all the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Flag, auto
from typing import Final, NamedTuple

# States are single letters so that a world is a short tuple of strings, cheap to hash.
# Reservation: -, Held, Partially paid, Confirmed, Rejected, Expired, cAncelled
LIVE: Final = "HP"
KEEPS: Final = "HPC"
BY_A_PERSON: Final = "organiser refunds"
# Credit: -, Open, Applied, Closed, Due, reFunded
# Payment: -, Pending, Opened, Approved, Rejected, Due, reFunded
# Charge at the provider: -, Charged, Declined, Tombstone, reFunded


class Flaw(Flag):
    """Guards that can be taken out, to see that the model misses each of them."""

    NONE = 0
    LATE_APPROVAL_IGNORED = auto()
    BLIND_REVIVAL = auto()
    STALE_EXPIRY = auto()
    NO_TOMBSTONE = auto()
    OPEN_IGNORES_OPEN = auto()
    OPEN_IGNORES_STATE = auto()
    PART_PAYMENT_KEPT = auto()
    NO_EXPIRY = auto()
    NO_RECONCILER = auto()
    RESERVE_IGNORES_OTHERS = auto()
    REJECTED_FREES = auto()
    APPROVED_APPLIES_TWICE = auto()
    REFUND_BEFORE_DUE = auto()
    CANCEL_TAKES_SALE_BACK = auto()


@dataclass(frozen=True)
class Scenario:
    """Who wants what: for each reservation its tickets and total, for each payment its reservation and amount."""

    name: str
    carts: tuple[frozenset[int], ...]
    totals: tuple[int, ...]
    payments: tuple[tuple[int, int], ...]
    flaw: Flaw = Flaw.NONE


class Pay(NamedTuple):
    """Everything about one payment: the credit, the payment, the charge, a charge call in the network, and the wire.

    The wire is a set of letters: Approved, reJected, Question of a refund (the command), reFund completed.
    """

    credit: str = "-"
    state: str = "-"
    charge: str = "-"
    calling: bool = False
    wire: str = ""

    def said(self, letter: str) -> "Pay":
        """With one more message on the wire."""
        return self if letter in self.wire else self._replace(wire="".join(sorted(self.wire + letter)))


class World(NamedTuple):
    """All reservations and all payments. `paid` counts what was applied, to see a payment applied twice."""

    reservations: str
    pays: tuple[Pay, ...]
    paid: tuple[int, ...]


Move = tuple[str, World]


def start(scenario: Scenario) -> World:
    """Nothing has happened."""
    count = len(scenario.carts)
    return World("-" * count, (Pay(),) * len(scenario.payments), (0,) * count)


class Machine:
    """The moves of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._flaw = scenario.flaw
        self._of = [
            tuple(index for index, (owner, _) in enumerate(scenario.payments) if owner == reservation)
            for reservation in range(len(scenario.carts))
        ]
        groups: dict[tuple[int, int], list[int]] = {}
        for index, payment in enumerate(scenario.payments):
            groups.setdefault(payment, []).append(index)
        self._alike = [group for group in groups.values() if len(group) > 1]

    def canonical(self, world: World) -> World:
        """One world for all that differ only in which of several equal payments is which."""
        pays = list(world.pays)
        for alike in self._alike:
            for index, pay in zip(alike, sorted(world.pays[index] for index in alike), strict=True):
                pays[index] = pay
        return world._replace(pays=tuple(pays))

    def progress(self, world: World) -> Iterator[Move]:
        """What the system does by itself sooner or later, if it is left alone: time, services, messages that arrive."""
        for index, state in enumerate(world.reservations):
            yield from self._time(world, index, state)
        for index, pay in enumerate(world.pays):
            yield from self._payments(world, index, pay)
            yield from self._provider(world, index, pay)
            yield from self._arrivals(world, index, pay)
            yield from self._reconcilers(world, index, pay)

    def mischief(self, world: World) -> Iterator[Move]:
        """What may happen or not: people change their minds, messages and replies are lost."""
        for index, state in enumerate(world.reservations):
            if state in LIVE or (state == "C" and self._flaw & Flaw.CANCEL_TAKES_SALE_BACK):
                yield f"buyer {index} cancels", self._end(world, index, "A")
            if state == "C":
                yield f"{BY_A_PERSON} {index}", self._end(world, index, "A")
        for index, pay in enumerate(world.pays):
            for letter in pay.wire:
                yield (
                    f"{letter}{index} is lost",
                    self._with(world, index, pay._replace(wire=pay.wire.replace(letter, ""))),
                )
            yield from self._lost_replies(world, index, pay)

    # --- reservations ---

    def _time(self, world: World, index: int, state: str) -> Iterator[Move]:
        if state == "-":
            free = self._free(world, index) or bool(self._flaw & Flaw.RESERVE_IGNORES_OTHERS)
            yield f"reserve {index}", self._set(world, index, "H" if free else "R")
        if state in LIVE and not self._flaw & Flaw.NO_EXPIRY:
            yield f"expire {index}", self._end(world, index, "E")
        if state == "C" and self._flaw & Flaw.STALE_EXPIRY:
            yield f"stale expiry {index}", self._end(world, index, "E")

    def _free(self, world: World, index: int) -> bool:
        wanted = self.scenario.carts[index]
        return not any(
            state in KEEPS and other != index and wanted & self.scenario.carts[other]
            for other, state in enumerate(world.reservations)
        )

    def _end(self, world: World, index: int, state: str) -> World:
        pays = list(world.pays)
        for payment in self._of[index]:
            pay = pays[payment]
            if pay.credit == "A" and not self._flaw & Flaw.PART_PAYMENT_KEPT:
                pays[payment] = pay._replace(credit="D").said("Q")
        return self._set(world, index, state)._replace(pays=tuple(pays), paid=_at(world.paid, index, 0))

    def _sum(self, world: World, reservation: int, states: str) -> int:
        return sum(
            self.scenario.payments[payment][1]
            for payment in self._of[reservation]
            if world.pays[payment].credit in states
        )

    def _opened(self, world: World, index: int) -> World | None:
        """After reservations was asked to open a payment; None when it refuses."""
        pay = world.pays[index]
        if pay.credit != "-":
            return None if pay.credit == "C" else world
        reservation, amount = self.scenario.payments[index]
        taken = self._sum(world, reservation, "A" if self._flaw & Flaw.OPEN_IGNORES_OPEN else "OA")
        alive = world.reservations[reservation] in LIVE or bool(self._flaw & Flaw.OPEN_IGNORES_STATE)
        if not alive or taken + amount > self.scenario.totals[reservation]:
            return None
        return self._with(world, index, pay._replace(credit="O"))

    def _approve(self, world: World, index: int) -> World:
        pay = world.pays[index]
        reservation, amount = self.scenario.payments[index]
        state, total = world.reservations[reservation], self.scenario.totals[reservation]
        if pay.credit == "A" and self._flaw & Flaw.APPROVED_APPLIES_TWICE and state in LIVE:
            return world._replace(paid=_at(world.paid, reservation, world.paid[reservation] + amount))
        if pay.credit not in "-OC":
            return world
        if pay.credit == "O" and state in LIVE:
            paid = world.paid[reservation] + amount
            world = self._with(world, index, pay._replace(credit="A"))._replace(paid=_at(world.paid, reservation, paid))
            return self._set(world, reservation, "C" if paid == total else "P")
        fits = self._free(world, reservation) or bool(self._flaw & Flaw.BLIND_REVIVAL)
        if pay.credit == "O" and state == "E" and amount == total and fits:
            world = self._with(world, index, pay._replace(credit="A"))._replace(
                paid=_at(world.paid, reservation, amount)
            )
            return self._set(world, reservation, "C")
        if self._flaw & Flaw.LATE_APPROVAL_IGNORED:
            return self._with(world, index, pay._replace(credit="C"))
        return self._with(world, index, pay._replace(credit="D").said("Q"))

    def _reject(self, world: World, index: int) -> World:
        pay = world.pays[index]
        if pay.credit == "O":
            return self._with(world, index, pay._replace(credit="C"))
        reservation = self.scenario.payments[index][0]
        if self._flaw & Flaw.REJECTED_FREES and world.reservations[reservation] in KEEPS:
            return self._end(world, reservation, "E")
        return world

    # --- payments and the provider ---

    def _payments(self, world: World, index: int, pay: Pay) -> Iterator[Move]:
        if pay.state == "-":
            yield f"pay {index}", self._with(world, index, pay._replace(state="P"))
        elif pay.state == "P":
            opened = self._opened(world, index)
            if opened is None:
                yield f"opening {index} refused", self._with(world, index, pay._replace(state="R").said("J"))
            else:
                yield f"open {index}", self._with(opened, index, opened.pays[index]._replace(state="O"))
        elif pay.state == "O":
            if not pay.calling:
                yield f"call charge {index}", self._with(world, index, pay._replace(calling=True))
            yield f"give up {index}", self._with(world, index, _known(self._cancelled(pay)))

    def _provider(self, world: World, index: int, pay: Pay) -> Iterator[Move]:
        if pay.calling:
            for charge in "CD" if pay.charge == "-" else pay.charge:
                landed = pay._replace(charge=charge, calling=False)
                yield f"charge {index}: {charge}", self._with(world, index, _known(landed))
        if pay.state == "D" or (pay.state == "A" and self._flaw & Flaw.REFUND_BEFORE_DUE):
            refunded = pay._replace(charge="F", state="F").said("F")
            yield f"refund {index}", self._with(world, index, refunded)

    def _cancelled(self, pay: Pay) -> Pay:
        """After CancelCharge."""
        if pay.charge == "-" and self._flaw & Flaw.NO_TOMBSTONE:
            return pay._replace(state="R").said("J")
        return pay._replace(charge="T") if pay.charge == "-" else pay

    def _lost_replies(self, world: World, index: int, pay: Pay) -> Iterator[Move]:
        if pay.state == "P" and (opened := self._opened(world, index)) is not None:
            yield f"open {index}, reply lost", opened
        if pay.calling:
            for charge in "CD" if pay.charge == "-" else pay.charge:
                yield (
                    f"charge {index}: {charge}, reply lost",
                    self._with(world, index, pay._replace(charge=charge, calling=False)),
                )
        if pay.state == "O":
            yield (
                f"cancel charge {index}, reply lost",
                self._with(world, index, pay if self._flaw & Flaw.NO_TOMBSTONE else self._cancelled(pay)),
            )
        if pay.state == "D":
            yield f"refund {index}, reply lost", self._with(world, index, pay._replace(charge="F"))

    # --- the wire ---

    def _arrivals(self, world: World, index: int, pay: Pay) -> Iterator[Move]:
        if "A" in pay.wire:
            yield f"A{index} arrives", self._approve(world, index)
        if "J" in pay.wire:
            yield f"J{index} arrives", self._reject(world, index)
        if "Q" in pay.wire and pay.state == "A":
            yield f"Q{index} arrives", self._with(world, index, pay._replace(state="D"))
        if "Q" in pay.wire and pay.state == "F":
            yield f"Q{index} arrives again", self._with(world, index, pay.said("F"))
        if "F" in pay.wire and pay.credit == "D":
            yield f"F{index} arrives", self._with(world, index, pay._replace(credit="F"))

    def _reconcilers(self, world: World, index: int, pay: Pay) -> Iterator[Move]:
        if self._flaw & Flaw.NO_RECONCILER:
            return
        if pay.credit == "O" and pay.state in "ADF":
            yield f"say A{index} again", self._with(world, index, pay.said("A"))
        if pay.credit == "O" and pay.state == "R":
            yield f"say J{index} again", self._with(world, index, pay.said("J"))
        if pay.credit == "D":
            yield f"say Q{index} again", self._with(world, index, pay.said("Q"))

    def _set(self, world: World, index: int, state: str) -> World:
        return world._replace(reservations=world.reservations[:index] + state + world.reservations[index + 1 :])

    def _with(self, world: World, index: int, pay: Pay) -> World:
        return world._replace(pays=(*world.pays[:index], pay, *world.pays[index + 1 :]))


def _known(pay: Pay) -> Pay:
    """After payments has heard what became of its charge. It listens only while it has not decided."""
    if pay.state != "O" or pay.charge == "-":
        return pay
    return pay._replace(state="A").said("A") if pay.charge == "C" else pay._replace(state="R").said("J")


def _at(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1 :])
