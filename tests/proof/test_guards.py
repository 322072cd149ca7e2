"""The table of guards speaks of the code as it is. `make proof-guards` takes each of them out."""

import ast

import pytest

from tests.proof.guard import Guard, problem_of
from tests.proof.guards import GUARDS, ROOT

GUARDS_MIN = 25


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_can_be_taken_out_and_the_tests_that_miss_it_exist(guard: Guard) -> None:
    assert guard.edits
    assert not [problem for edit in guard.edits if (problem := problem_of(edit, ROOT))]
    assert all(edit.old != edit.new for edit in guard.edits)
    assert guard.tests
    for test in guard.tests:
        file, _, name = test.partition("::")
        functions = [
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        assert name in functions, f"{file} has no {name}"


def test_there_are_guards_of_every_kind_and_each_has_one_name() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS) >= GUARDS_MIN
