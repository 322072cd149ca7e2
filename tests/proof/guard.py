"""A guard of the product: how it is taken out, and which tests must fail then."""

from pathlib import Path
from typing import Final, NamedTuple

# It knows what the handlers must do without knowing how.
LOCKSTEP: Final = (
    "tests/proof/test_against_model.py::test_after_every_move_the_real_system_and_the_model_are_in_the_same_world"
)


class Edit(NamedTuple):
    """`old`, which is in the file exactly once, becomes `new`."""

    file: str
    old: str
    new: str


class Guard(NamedTuple):
    """Each of the tests must fail, by name (and not for want of an import), once all edits are made."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


def problem_of(edit: Edit, root: Path) -> str:
    """Why an edit does not fit the code as it is; empty if it does."""
    count = (root / edit.file).read_text().count(edit.old)
    return "" if count == 1 else f"{edit.file} has this {count} times, not once:\n{edit.old}"
