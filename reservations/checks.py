"""The checks that messages have in common; each notes what is wrong under the name of its field."""

import re
from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import invalid
from contract.texts import CONTROL

VIOLATIONS_MAX: Final = 16
"""A refusal travels in the trailing metadata, 8 KiB in all."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NIL = UUID(int=0)
_TIMESTAMP_S: Final = range(-62_135_596_800, 253_402_300_800)  # years 1 to 9999, as the Timestamp's own rules have it
_NS_PER_S: Final = 1_000_000_000
_NANOS: Final = range(_NS_PER_S)


class Checks:
    """What is wrong with one message. A check answers the value, or a stand-in if it is wrong; `end` refuses."""

    def __init__(self) -> None:
        self._violations: dict[str, str] = {}

    def end(self) -> None:
        """Raises CallError (INVALID_ARGUMENT) that names each wrong field, if there is one."""
        if self._violations:
            raise invalid(self._violations)

    def fail(self, field: str, problem: str) -> None:
        """Notes a problem."""
        if len(self._violations) < VIOLATIONS_MAX:
            self._violations[field] = problem

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong so far."""
        return not self._violations

    def uuid(self, field: str, value: str) -> UUID:
        """A UUID as people write it, in either case."""
        if _UUID.fullmatch(value):
            return UUID(value)
        self.fail(field, "must be a UUID, 8-4-4-4-12 hexadecimal digits")
        return _NIL

    def uuids(self, field: str, values: Sequence[str], *, count_max: int) -> list[UUID]:
        """1 to `count_max` UUIDs, none twice."""
        if not self.count(field, values, maximum=count_max):
            return []
        found = [self.uuid(f"{field}[{index}]", value) for index, value in enumerate(values)]
        if self.passed and len(set(found)) < len(found):
            self.fail(field, "must not hold the same id twice")
        return found

    def count(self, field: str, values: Collection[object], *, maximum: int) -> bool:
        """1 to `maximum` entries; answers whether it is so."""
        holds = 1 <= len(values) <= maximum
        if not holds:
            self.fail(field, f"must have 1 to {maximum:,} entries")
        return holds

    def text(self, field: str, value: str, *, length_max: int, length_min: int = 1) -> None:
        """So many characters, for people: not only blanks, and none that a terminal would take for a command."""
        if not length_min <= len(value) <= length_max:
            self.fail(
                field, f"must have {length_min or 'at most'} {'to ' if length_min else ''}{length_max} characters"
            )
        elif CONTROL.search(value):
            self.fail(field, "must not hold control characters")
        elif length_min and not value.strip():
            self.fail(field, "must not be blank")

    def number(self, field: str, value: int, *, minimum: int, maximum: int) -> None:
        """Within bounds, both included."""
        if not minimum <= value <= maximum:
            self.fail(field, f"must be {minimum:,} to {maximum:,}")

    def time(self, field: str, value: Timestamp) -> None:
        """A Timestamp within its own rules."""
        if value.seconds not in _TIMESTAMP_S or value.nanos not in _NANOS:
            self.fail(field, "must be a time in the years 1 to 9999")

    def span(self, field: str, value: Duration, *, minimum_s: int, maximum_s: int) -> None:
        """Within bounds, both included."""
        total_ns = value.seconds * _NS_PER_S + value.nanos
        if value.nanos not in _NANOS or not minimum_s * _NS_PER_S <= total_ns <= maximum_s * _NS_PER_S:
            self.fail(field, f"must be {minimum_s:,} s to {maximum_s:,} s")

    def page_size(self, value: int, *, default: int, maximum: int) -> int:
        """0 for the default, else up to the maximum."""
        self.number("page_size", value, minimum=0, maximum=maximum)
        return value or default
