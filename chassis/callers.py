"""Who calls: told by the call's token at the public door, and by the door to the services behind it."""

import math
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

OPERATOR: Final = "operator"
"""The role that may do everything; in it asks whoever asks where nobody is told apart."""

# How the door tells the services behind it for whom it asks. The door passes on nothing that its own callers sent.
SUBJECT_KEY: Final = "ticketrush-subject"
ROLES_KEY: Final = "ticketrush-roles"

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody by name, and what they are; what they say counts until `valid_until_s`, seconds since the epoch.

    `metadata` tells a service behind who asks.
    """

    subject: str
    roles: frozenset[str]
    valid_until_s: float = math.inf
    metadata: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        told = ((SUBJECT_KEY, self.subject), (ROLES_KEY, ",".join(sorted(self.roles))))
        object.__setattr__(self, "metadata", told)


NOBODY: Final = Caller("", frozenset())
"""Of whom nothing is known; may do what needs no role."""
ANYBODY: Final = Caller("", frozenset({OPERATOR}))
"""Whoever asks where nobody is told apart: on loopback, without tokens or TLS."""

calling: ContextVar[Caller] = ContextVar("calling", default=NOBODY)
"""Who makes the call that is being served; set around every call, before its message is read."""


def told_by_door(metadata: Metadata) -> Caller | None:
    """For whom a call from the public door is made; None if it does not say."""
    subject = roles = None
    for key, value in metadata:
        if key == SUBJECT_KEY:
            subject = str(value)
        elif key == ROLES_KEY:
            roles = str(value)
    if subject is None or roles is None:
        return None
    return Caller(subject, frozenset(filter(None, roles.split(","))))
