"""Detached processes of the stack, recognised by later commands through pid and start time."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from deploy.errors import StackError

POLL_INTERVAL_S: Final = 0.05
OTHERS_WITHIN_S: Final = 30.0
KILL_DEADLINE_S: Final = 10.0
LOG_BYTES_MAX: Final = 16 * 1024 * 1024
LOG_TAIL_LINES: Final = 20
_LOG_TAIL_BYTES: Final = 16 * 1024

# The children of this very process by pid: who does not reap them leaves zombies, and who forgets them is warned.
_children: dict[int, subprocess.Popen[bytes]] = {}


@atexit.register
def _reap_children() -> None:
    """Of those that somebody else ended, so that Python does not say of each that it is still running."""
    for child in _children.values():
        child.poll()


def wait_until(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Polls the condition until it holds; False when the deadline passed first."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def wait_with_others(condition: Callable[[], bool], deadline_s: float, others: Sequence["Process"]) -> bool:
    """Waits as `wait_until` does for something of a cluster, but only OTHERS_WITHIN_S where one of the others has died.

    Who waits for that one waits in vain, and it is to be started, too.
    """
    begin = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - begin
        if waited_s >= deadline_s or (waited_s >= OTHERS_WITHIN_S and dead(others)):
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def dead(processes: Sequence["Process"]) -> list[str]:
    """The names of those that have died."""
    return [process.name for process in processes if process.has_died]


@dataclass(frozen=True)
class _Record:
    """What was started. A pid alone may belong to somebody else by now; pid and start time together cannot."""

    pid: int
    start_ticks: int
    fingerprint: str


class Process:
    """One named process under a run directory: `NAME.pid` for people, `state/NAME.json` for us, `NAME.log`."""

    def __init__(self, name: str, run_dir: Path) -> None:
        self.name = name
        self.log = run_dir / f"{name}.log"
        self._pid_file = run_dir / f"{name}.pid"
        self._record_file = run_dir / "state" / f"{name}.json"

    @property
    def pid(self) -> int | None:
        """Its pid, None when it does not run."""
        record = self._read()
        return record.pid if record and _runs(record) else None

    @property
    def has_died(self) -> bool:
        """Whether it was started, nobody has stopped it, and it does not run."""
        return self._read() is not None and self.pid is None

    @property
    def fingerprint(self) -> str | None:
        """What its starter said of the way it was started; None if it was not."""
        record = self._read()
        return record.fingerprint if record else None

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        directory: Path,
        account: str | None = None,
        fingerprint: str = "",
    ) -> None:
        """Starts the command in a session of its own, as another account if one is named; output goes to the log."""
        self._rotate_log()
        with self.log.open("ab") as output:
            child = subprocess.Popen(
                [*as_account(account), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=dict(environment),
                start_new_session=True,
            )
        pid = child.pid
        _children[pid] = child
        # A child that has ended already has no start time; -1 is nobody's.
        record = _Record(pid, _start_ticks(pid) or -1, fingerprint)
        write_atomically(self._record_file, json.dumps(asdict(record)))
        write_atomically(self._pid_file, f"{pid}\n")

    def stop(self, deadline_s: float, *, by: signal.Signals = signal.SIGTERM) -> bool:
        """Asks it to end, waits, then kills. False if it had to be killed. Raises StackError if even that failed."""
        self._send(by)
        in_time = wait_until(lambda: self.pid is None, deadline_s)
        if not in_time:
            self.kill()
        self._pid_file.unlink(missing_ok=True)
        self._record_file.unlink(missing_ok=True)
        return in_time

    def kill(self) -> None:
        """kill -9, and waits until it is gone. Its files stay, as after a crash."""
        self._send(signal.SIGKILL)
        if not wait_until(lambda: self.pid is None, KILL_DEADLINE_S):
            raise StackError(f"{self.name} (pid {self.pid}) is still there {KILL_DEADLINE_S:.0f} s after kill -9")

    def log_tail(self) -> str:
        """The last lines of its log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])

    def _send(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _read(self) -> _Record | None:
        try:
            return _Record(**json.loads(self._record_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            # A record that cannot be read says nothing; the port it held will show whether it still runs.
            return None

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file as a whole, so that no reader sees half of it. Only the owner may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def _runs(record: _Record) -> bool:
    runs = _start_ticks(record.pid) == record.start_ticks
    child = _children.get(record.pid)
    # In this order: one that ends between the two looks is looked at again, and not forgotten as a zombie.
    if not runs and child is not None and child.poll() is not None:
        del _children[record.pid]
    return runs


def as_account(account: str | None) -> list[str]:
    """What to put before a command to run it as another account; nothing for one's own.

    Not Popen's own `user`: with it the child is made by fork(), and the fork handlers of libraries that have threads of
    their own (gRPC) can crash it.
    """
    return [] if account is None else ["setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups", "--"]


def _start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it is gone or waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command in parentheses may itself hold spaces and parentheses (proc(5)).
    state, *fields = stat[stat.rindex(")") + 2 :].split()
    threads, start_ticks = int(fields[16]), int(fields[18])
    # The first thread of a killed program may be a zombie before the others, which hold its ports until they end.
    ended = state == "X" or (state == "Z" and threads <= 1)
    return None if ended else start_ticks
