"""Makes `.venv` with all packages, again only when it must: `python3 -m deploy.bootstrap`, from the checkout.

It runs before there are any packages, so it imports the standard library alone.
"""

import fcntl
import hashlib
import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from deploy.debian import install
from deploy.errors import StackError

ROOT: Final = Path(__file__).resolve().parent.parent
VENV: Final = ROOT / ".venv"
PYTHON: Final = VENV / "bin" / "python"
STAMP: Final = VENV / "installed"
RUN_DIR: Final = ROOT / ".run"
LOG: Final = RUN_DIR / "install.log"
PROGRESS_INTERVAL_S: Final = 5.0
LOG_TAIL_LINES: Final = 20


def main() -> None:
    if is_fresh():
        return
    RUN_DIR.mkdir(exist_ok=True)
    with (RUN_DIR / "install.lock").open("a") as lock:
        # Two makes at once: the second waits, and finds the work done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_fresh():
            make_environment()
            install_packages()
            STAMP.write_text(fingerprint())


def is_fresh() -> bool:
    return STAMP.exists() and STAMP.read_text() == fingerprint() and works()


def fingerprint() -> str:
    """Of all that decides what is installed; the path too, because a virtual environment cannot be moved."""
    parts = [sys.version.encode(), str(ROOT).encode()]
    parts += [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def works() -> bool:
    """Whether the environment's Python is there, at this path, and of this version."""
    probe = [str(PYTHON), "-c", "import sys; print(sys.prefix, sys.version_info[:2])"]
    try:
        told = subprocess.run(probe, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return False
    return told == f"{VENV} {sys.version_info[:2]}"


def make_environment() -> None:
    if works():
        return
    if importlib.util.find_spec("ensurepip") is None:
        # Debian ships this part of Python's own library as a package.
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        install([package], RUN_DIR / "apt.log", say)
    say(f"making the virtual environment {VENV}")
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)


def install_packages() -> None:
    """Installs the pinned packages and the checkout itself, saying how far it is."""
    total = len((ROOT / "constraints.txt").read_text().split())
    command = [str(PYTHON), "-m", "pip", "install", "--constraint", "constraints.txt", "--editable", ".[dev]"]
    found, last_said = 0, time.monotonic()
    say(f"installing {total} packages (output in {LOG})")
    with (
        LOG.open("w") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip,
    ):
        for line in pip.stdout or ():
            log.write(line)
            found += line.startswith(("Collecting ", "Requirement already satisfied: "))
            if time.monotonic() - last_said >= PROGRESS_INTERVAL_S:
                last_said = time.monotonic()
                step = "unpacking" if line.startswith("Installing ") else f"{min(found, total)} of {total} found"
                say(f"  {step}")
    if pip.returncode:
        tail = "\n".join(LOG.read_text().splitlines()[-LOG_TAIL_LINES:])
        raise StackError(f"pip could not install the packages:\n{tail}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except StackError as error:
        sys.exit(f"error: {error}")
