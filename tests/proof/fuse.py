"""The end of a process at a named point, once for each thing that comes there and is remembered over its lives."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from contract.ids import shard_bits

EXIT_CODE: Final = 137


class Mark(NamedTuple):
    """One passage of a point: which of its kind (a routing key, a use case), and the shard bits of whom it was about.

    All ids of one event share their shard bits, and each scenario has events of its own. Without anybody: 0.
    """

    point: str
    detail: str
    shard: int


class Fuse:
    """Ends this process, as kill -9 would, when a call passes the point about something that it did not end for yet.

    `memory` outlives the process. With `counting` nothing ends: passages are only noted.
    """

    def __init__(self, point: str, memory: Path, *, counting: bool = False) -> None:
        self._point = point
        self._memory = memory
        self._counting = counting
        self._known = set(marks(memory))

    def blow(self, detail: str, subjects: Iterable[UUID]) -> None:
        """To be called at the point; returns only if the process goes on."""
        shards = {shard_bits(subject) for subject in subjects} or {0}
        new = {Mark(self._point, detail, shard) for shard in shards} - self._known
        if not new:
            return
        self._known |= new
        with self._memory.open("a") as memory:
            memory.writelines(f"{mark.point}\t{mark.detail}\t{mark.shard}\n" for mark in sorted(new))
        if not self._counting:
            os._exit(EXIT_CODE)


def marks(memory: Path) -> list[Mark]:
    """All that was noted, in order."""
    if not memory.exists():
        return []
    rows = (line.split("\t") for line in memory.read_text().splitlines())
    return [Mark(point, detail, int(shard)) for point, detail, shard in rows]
