"""The provider's durable memory: what was decided under each payment_id, for ever. All its SQL is here."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID, uuid4

from provider.group_commit import GroupCommit

State = Literal["APPROVED", "DECLINED", "CANCELLED"]

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS charge (
  ordinal        INTEGER PRIMARY KEY AUTOINCREMENT,
  charge_id      TEXT NOT NULL UNIQUE,
  payment_id     TEXT NOT NULL UNIQUE,
  amount_minor   INTEGER NOT NULL,
  refunded_minor INTEGER NOT NULL DEFAULT 0,
  currency       TEXT NOT NULL,
  state          TEXT NOT NULL CHECK (state IN ('APPROVED', 'DECLINED', 'CANCELLED')),
  decline_reason TEXT NOT NULL,
  payment_method TEXT NOT NULL,
  CONSTRAINT tombstone_is_empty CHECK ((state = 'CANCELLED') = (amount_minor = 0)),
  CONSTRAINT decline_has_reason CHECK ((state = 'DECLINED') = (decline_reason <> '')),
  CONSTRAINT refund_is_whole CHECK (refunded_minor = 0 OR (state = 'APPROVED' AND refunded_minor = amount_minor))
) STRICT;

CREATE TABLE IF NOT EXISTS scripted_failure (
  payment_id TEXT NOT NULL,
  call       TEXT NOT NULL CHECK (call IN ('Charge', 'Refund')),
  failures   INTEGER NOT NULL,
  PRIMARY KEY (payment_id, call)
) STRICT, WITHOUT ROWID;
"""
_COLUMNS: Final = (
    "ordinal, charge_id, payment_id, amount_minor, refunded_minor, currency, state, decline_reason, payment_method"
)


@dataclass(frozen=True)
class Charge:
    """A decision. Ordinals grow in the order in which decisions were taken."""

    ordinal: int
    charge_id: str
    payment_id: str
    amount_minor: int
    refunded_minor: int
    currency: str
    state: State
    decline_reason: str
    payment_method: str


@dataclass(frozen=True)
class Order:
    """What a caller wants charged."""

    payment_id: UUID
    amount_minor: int
    currency: str
    payment_method: str


class Store:
    """Each method is one piece of a group commit: when it answers, the answer is on disk."""

    def __init__(self, group: GroupCommit) -> None:
        self._group = group

    async def open(self) -> None:
        """Makes the tables if there are none."""
        await self._group.open(SCHEMA)

    async def decide(self, order: Order, *, decline_reason: str) -> tuple[Charge, bool]:
        """The charge under the order's key, and whether this call made it: whoever records first wins."""
        state: State = "DECLINED" if decline_reason else "APPROVED"
        return await self._group.run(lambda connection: _insert(connection, order, state, decline_reason))

    async def cancel(self, payment_id: UUID) -> Charge:
        """What stands under the key: a tombstone, unless something was decided before."""
        nothing = Order(payment_id, amount_minor=0, currency="", payment_method="")
        charge, _ = await self._group.run(lambda connection: _insert(connection, nothing, "CANCELLED", ""))
        return charge

    async def find(self, payment_id: UUID) -> Charge | None:
        """The charge or tombstone under the key."""
        return await self._group.run(lambda connection: _select(connection, payment_id))

    async def refund(self, payment_id: UUID) -> None:
        """Gives an approved charge back, once; changes nothing in any other state."""
        sql = "UPDATE charge SET refunded_minor = amount_minor WHERE payment_id = ? AND state = 'APPROVED'"
        await self._group.run(lambda connection: connection.execute(sql, (str(payment_id),)).rowcount)

    async def page(self, *, after_ordinal: int, size: int) -> Sequence[Charge]:
        """At most `size` charges after the ordinal, in the order of their decisions."""
        return await self._group.run(lambda connection: _select_page(connection, after_ordinal, size))

    async def fails_again(self, payment_id: UUID, call: Literal["Charge", "Refund"], times: int) -> bool:
        """Counts one more scripted failure and answers True, as long as there were fewer than `times`."""
        return times > 0 and await self._group.run(
            lambda connection: _count_failure(connection, payment_id, call, times)
        )


def _insert(connection: sqlite3.Connection, order: Order, state: State, decline_reason: str) -> tuple[Charge, bool]:
    key = str(order.payment_id)
    row = (str(uuid4()), key, order.amount_minor, order.currency, state, decline_reason, order.payment_method)
    made = connection.execute(
        "INSERT INTO charge (charge_id, payment_id, amount_minor, currency, state, decline_reason, payment_method)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (payment_id) DO NOTHING",
        row,
    ).rowcount
    charge = _select(connection, order.payment_id)
    if charge is None:
        raise RuntimeError(f"charge {order.payment_id} was written and is not there")
    return charge, made == 1


def _select(connection: sqlite3.Connection, payment_id: UUID) -> Charge | None:
    sql = f"SELECT {_COLUMNS} FROM charge WHERE payment_id = ?"  # noqa: S608 - a constant
    row = connection.execute(sql, (str(payment_id),)).fetchone()
    return Charge(*row) if row else None


def _select_page(connection: sqlite3.Connection, after_ordinal: int, size: int) -> list[Charge]:
    sql = f"SELECT {_COLUMNS} FROM charge WHERE ordinal > ? ORDER BY ordinal LIMIT ?"  # noqa: S608 - a constant
    return [Charge(*row) for row in connection.execute(sql, (after_ordinal, size))]


def _count_failure(connection: sqlite3.Connection, payment_id: UUID, call: str, times: int) -> bool:
    counted = connection.execute(
        "INSERT INTO scripted_failure (payment_id, call, failures) VALUES (?, ?, 1)"
        " ON CONFLICT (payment_id, call) DO UPDATE SET failures = failures + 1 WHERE failures < ?",
        (str(payment_id), call, times),
    )
    return counted.rowcount == 1
