"""Where a page of a list ended, newest first: by create_time, then by id."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID


@dataclass(frozen=True)
class Position:
    """The last entry of a page; the next page goes on behind it."""

    create_time: datetime
    id: UUID

    def __str__(self) -> str:
        return f"{self.create_time.isoformat()} {self.id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads back what `str` wrote. Raises ValueError for anything else."""
        create_time, _, entry = text.partition(" ")
        return cls(datetime.fromisoformat(create_time), UUID(entry))
