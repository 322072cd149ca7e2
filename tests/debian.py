"""Programs of Debian's that tests drive: installed by apt if they are missing, as the stack's servers are."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from deploy.debian import install


def program(package: str, *names: str) -> str:
    """The path of the first of these programs that is there, one of them brought by the package.

    Raises StackError, which says what to install, where none can be had.
    """
    if found := _found(names):
        return found
    own = Path(tempfile.gettempdir()) / f"ticketrush-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    with (own / f"{package}.lock").open("a") as lock:
        # Tests run in several processes: one of them installs, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _found(names):
            install([package], own / "apt.log", print)
    return _found(names) or names[0]


def _found(names: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)
