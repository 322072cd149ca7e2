"""Who may import whom. Business never leaks into the chassis, services know each other by contract only."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Package -> what it may import of this repository besides itself and generated code.
MAY_IMPORT = {
    "chassis": set(),
    "contract": {"chassis"},
    "gateway": {"chassis", "contract"},
    "reservations": {"chassis", "contract"},
    "payments": {"chassis", "contract"},
    "provider": {"chassis", "contract"},
    # The sweeps are reservations' own functions, run by another process.
    "scheduler": {"chassis", "contract", "reservations"},
    "deploy": {"chassis", "contract"},
    # What operators do is part of the command, and speaks as the rest of it does.
    "cli": {"chassis", "contract", "deploy", "ops"},
    "ops": {"chassis", "cli", "contract", "payments", "reservations"},
    # How Go is found.
    "loadgen": {"deploy"},
    "bench": {"chassis", "contract", "deploy", "gateway", "loadgen"},
    # Breaks and checks from outside: no word of the services' own.
    "chaos": {"chassis", "deploy", "loadgen"},
}
GENERATED = "ticketrush"
OURS = MAY_IMPORT.keys() | {"tests", GENERATED}
# The messages on the wire; everything else that is generated has business words in it.
CHASSIS_MAY_GENERATED = {"ticketrush.messages.v1"}
PURE = [*sorted((ROOT / "reservations/domain").glob("*.py")), ROOT / "payments/domain.py"]


def imported(file: Path) -> Iterator[str]:
    """Full names of the modules that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides where it leads"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imported(file)
        if (top := name.partition(".")[0]) in OURS - {GENERATED, package} and top not in MAY_IMPORT[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_chassis_knows_no_message_but_the_envelope() -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / "chassis").rglob("*.py"))
        for name in imported(file)
        if name.startswith(GENERATED) and not any(name.startswith(known) for known in CHASSIS_MAY_GENERATED)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", PURE, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_domain_is_pure(file: Path) -> None:
    own = file.relative_to(ROOT).parts[0]
    wrong = [
        name
        for name in imported(file)
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names
        and top != "contract"
        and not name.startswith((f"{own}.domain", f"{own}.ledger"))
    ]
    assert not wrong, f"{file} imports {wrong}"


def test_every_package_has_its_rule() -> None:
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    assert packages - {"tests"} == MAY_IMPORT.keys()
