"""One command at a time changes a run directory, and one at a time what all of them on a machine share."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from deploy.errors import StackError
from deploy.process import wait_until

# Longer than a first `up` that installs packages on a slow line.
LOCK_DEADLINE_S: Final = 1_800.0


def shared_folder() -> Path:
    """A folder that all our run directories on this machine share."""
    folder = Path(tempfile.gettempdir()) / f"ticketrush-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def locked(run_dir: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the run directory's lock, which the kernel gives back however its holder ends. Raises StackError."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "stack.lock"
    with path.open("a") as file:
        if not _taken(file):
            say("another command is changing this stack; waiting for it")
            if not wait_until(lambda: _taken(file), LOCK_DEADLINE_S):
                raise StackError(f"another command has held {path} for {LOCK_DEADLINE_S:.0f} s; end it and try again")
        yield


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
