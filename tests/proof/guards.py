"""Takes out each guard, in a copy of the tree, and demands that its tests fail: `make proof-guards` (ARGS=lock)."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.proof.guard import Guard, problem_of
from tests.proof.guards_against_garbage import GARBAGE
from tests.proof.guards_at_the_doors import DOORS
from tests.proof.guards_between_processes import ADMISSION, CLOCK, MESSAGES, PAYMENTS
from tests.proof.guards_in_reservations import DATABASE, TICKETS_AND_MONEY
from tests.proof.guards_of_data import PAST, PEOPLE, RIGHTS
from tests.proof.guards_of_limits import LIMITS
from tests.proof.guards_of_links import LINKS
from tests.proof.guards_of_several import SEVERAL
from tests.proof.guards_of_shards import SHARDS
from tests.proof.guards_of_the_cluster import CLUSTER

GUARDS: Final = (
    *TICKETS_AND_MONEY,
    *DATABASE,
    *PAYMENTS,
    *MESSAGES,
    *ADMISSION,
    *LIMITS,
    *CLOCK,
    *DOORS,
    *LINKS,
    *RIGHTS,
    *PAST,
    *PEOPLE,
    *GARBAGE,
    *CLUSTER,
    *SEVERAL,
    *SHARDS,
)
ROOT: Final = Path(__file__).parents[2]
TRIAL_TIMEOUT_S: Final = 240
# pytest: the tests ran, and some failed.
TESTS_FAILED: Final = 1
_NOT_COPIED: Final = shutil.ignore_patterns(".*", "__pycache__")
console: Final = Console(width=150)


class Trial(NamedTuple):
    """What the tests said without the guard; `problem` is empty when each failed as it must."""

    guard: Guard
    seconds: float
    problem: str


def try_without(guard: Guard, tree: Path) -> Trial:
    """Takes the guard out of the tree, runs its tests there, and puts it back."""
    begin = time.monotonic()
    before = {edit.file: (tree / edit.file).read_text() for edit in guard.edits}
    try:
        for edit in guard.edits:
            if problem := problem_of(edit, tree):
                return Trial(guard, time.monotonic() - begin, problem)
            file = tree / edit.file
            file.write_text(file.read_text().replace(edit.old, edit.new))
        code, output = _pytest(guard.tests, tree)
    finally:
        for name, text in before.items():
            (tree / name).write_text(text)
    passed = [test for test in guard.tests if f"FAILED {test}" not in output]
    problem = ""
    if code != TESTS_FAILED or passed:
        problem = f"not caught (pytest: {code}) by {', '.join(passed) or 'anything'}\n{output[-2_000:]}"
    return Trial(guard, time.monotonic() - begin, problem)


def _pytest(tests: Sequence[str], tree: Path) -> tuple[int, str]:
    """Exit code and output; a run that does not end in time is killed with all its processes."""
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=line", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": f"{tree}:{tree / 'gen/python'}", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    ) as process:
        try:
            output, _ = process.communicate(timeout=TRIAL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += f"\nnot done within {TRIAL_TIMEOUT_S} s"
        return process.returncode, output


def main() -> None:
    """Exit code 0 when every guard was missed by its tests."""
    wanted = [guard for guard in GUARDS if all(word in guard.name for word in sys.argv[1:])]
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="guards-") as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(ROOT, tree, ignore=_NOT_COPIED)
        for number, guard in enumerate(wanted, start=1):
            trial = try_without(guard, tree)
            trials.append(trial)
            told = trial.problem or "caught"
            console.print(f"{number}/{len(wanted)} {guard.name}: {told}, {trial.seconds:.0f} s", markup=False)
    table = Table("guard", "caught by", "s", title="Guards that were taken out")
    for trial in trials:
        names = "\n".join(test.partition("::")[2] for test in trial.guard.tests)
        table.add_row(trial.guard.name, "NOT CAUGHT" if trial.problem else names, f"{trial.seconds:.0f}")
    console.print(table)
    missed = sum(bool(trial.problem) for trial in trials)
    console.print(f"{len(trials)} guards, {missed} not caught, {sum(trial.seconds for trial in trials):.0f} s")
    sys.exit(1 if missed or not trials else 0)


if __name__ == "__main__":
    main()
