"""A process is known by pid and start time, and is gone when we say so."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.process import Process, wait_until

DEADLINE_S = 10.0
SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]
DEAF = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()",
]
# Its first thread ends, another one goes on; not for ever, for whoever takes it for gone does not end it.
HEADLESS = [
    sys.executable,
    "-c",
    "import ctypes, threading, time\n"
    "threading.Thread(target=time.sleep, args=(30,)).start()\n"
    "ctypes.CDLL(None).pthread_exit(None)\n",
]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process("sleeper", tmp_path)
    yield process
    process.kill()


def start(process: Process, command: list[str]) -> int:
    process.start(command, os.environ, directory=Path("/"))
    assert process.pid is not None
    return process.pid


def test_later_commands_find_the_process_by_its_files(process: Process, tmp_path: Path) -> None:
    pid = start(process, SLEEPER)
    assert (tmp_path / "sleeper.pid").read_text().strip() == str(pid)
    assert Process("sleeper", tmp_path).pid == pid


def test_who_was_killed_has_died_and_who_was_stopped_or_never_started_has_not(process: Process) -> None:
    assert not process.has_died
    start(process, SLEEPER)
    assert not process.has_died
    process.kill()
    assert process.has_died
    start(process, SLEEPER)
    process.stop(DEADLINE_S)
    assert not process.has_died


def test_it_runs_in_a_session_of_its_own(process: Process) -> None:
    """So that Ctrl-C in the terminal of `make up` does not reach it."""
    pid = start(process, SLEEPER)
    assert os.getsid(pid) == pid


def test_one_killed_from_outside_does_not_run(process: Process) -> None:
    os.kill(start(process, SLEEPER), signal.SIGKILL)
    assert wait_until(lambda: process.pid is None, DEADLINE_S)


def test_a_zombie_does_not_run(process: Process, tmp_path: Path) -> None:
    """Where nobody reaps it, as under a container's first process."""
    os.kill(start(process, SLEEPER), signal.SIGKILL)
    onlooker = Process("sleeper", tmp_path)
    assert wait_until(lambda: onlooker.pid is None, DEADLINE_S)


def test_one_of_whose_threads_any_is_left_runs(process: Process) -> None:
    """Of a killed HAProxy the first thread was a zombie while the second still held its ports."""
    pid = start(process, HEADLESS)
    assert wait_until(lambda: "State:\tZ" in Path(f"/proc/{pid}/status").read_text(), DEADLINE_S)
    assert process.pid == pid
    process.kill()
    assert process.pid is None


def test_a_pid_that_somebody_else_got_since_does_not_count(process: Process, tmp_path: Path) -> None:
    pid = start(process, SLEEPER)
    record = tmp_path / "state" / "sleeper.json"
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"start_ticks": told["start_ticks"] - 1}))
    stranger = Process("sleeper", tmp_path)
    assert stranger.pid is None
    stranger.kill()
    os.kill(pid, 0)  # still there: kill -9 did not hit the stranger
    record.write_text(json.dumps(told))


def test_a_pid_file_alone_proves_nothing(process: Process, tmp_path: Path) -> None:
    (tmp_path / "sleeper.pid").write_text(str(os.getpid()))
    assert process.pid is None


def test_stopping_removes_its_files(process: Process, tmp_path: Path) -> None:
    start(process, SLEEPER)
    assert process.stop(DEADLINE_S)
    assert process.pid is None
    assert not (tmp_path / "sleeper.pid").exists()


def test_one_that_does_not_heed_sigterm_is_killed_and_said_to_be(process: Process) -> None:
    start(process, DEAF)
    assert wait_until(lambda: "deaf" in process.log_tail(), DEADLINE_S)
    assert not process.stop(deadline_s=0.2)
    assert process.pid is None


def test_a_torn_record_counts_as_none(process: Process, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "sleeper.json").write_text('{"pid": 1')
    assert process.pid is None


def test_its_output_is_kept_over_restarts(process: Process) -> None:
    for word in ("first", "second"):
        start(process, [*SLEEPER[:2], f"print('{word}', flush=True); import signal; signal.pause()"])
        assert wait_until(lambda: word in process.log_tail(), DEADLINE_S)  # noqa: B023 # called at once
        process.kill()
    assert process.log_tail().split() == ["first", "second"]
