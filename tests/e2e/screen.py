"""A terminal of a given size, in which a person types a command and presses keys."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Final

from tests.ops.desk import ENTRY

WITHIN_S: Final = 60.0
LINES: Final = 24
CTRL_C: Final = "\x03"
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Screen:
    """Blocks: to be used in a thread. `shown` is all that was written so far, with its control characters."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], *, columns: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); {ENTRY}", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
            | {"TERM": "xterm-256color"}
            | {name: value for name, value in environment.items() if name == "NO_COLOR"},
            cwd="/",
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    @property
    def text(self) -> str:
        """What was written, without its control characters."""
        return _CONTROL.sub("", self.shown).replace("\r\n", "\n")

    def read_until(self, text: str) -> None:
        """Reads on until the text was shown."""
        deadline_s = time.monotonic() + WITHIN_S
        while text not in self.text:
            assert self._read(deadline_s), f"ended before it showed {text!r}:\n{self.text}"

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def ended(self) -> int:
        """Reads the rest; the exit code."""
        deadline_s = time.monotonic() + WITHIN_S
        while self._read(deadline_s):
            pass
        return self._process.wait(WITHIN_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def _read(self, deadline_s: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(deadline_s - time.monotonic(), 0))
        assert ready, f"nothing more came:\n{self.text}"
        try:
            read = os.read(self._ours, 65_536)
        except OSError:  # how Linux says that nobody has the other end any more
            return False
        self.shown += read.decode()
        return bool(read)
