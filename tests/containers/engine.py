"""A Docker engine: the machine's where it answers, else one of our own that nothing is left of."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.debian import install
from deploy.errors import StackError
from deploy.process import wait_until

ANSWER_TIMEOUT_S: Final = 20
START_DEADLINE_S: Final = 60.0
STOP_DEADLINE_S: Final = 60.0
COMMAND_TIMEOUT_S: Final = 1_800
_KILL_DEADLINE_S: Final = 10.0
# What Docker 20.10 makes outside of the folders that it is told of.
_STRAYS: Final = tuple(map(Path, ("/etc/docker/key.json", "/etc/docker", "/run/docker", "/opt/containerd")))


class Docker:
    """The command `docker` for one engine; `environment` says which."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = {**os.environ, **environment}

    def run(self, *arguments: str, cwd: Path | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """What it printed. Raises StackError."""
        try:
            done = subprocess.run(
                ["docker", *arguments],
                env=self.environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise StackError("there is no command docker") from error
        except subprocess.TimeoutExpired as error:
            raise StackError(f"docker {arguments[0]} took longer than {timeout_s:.0f} s") from error
        if done.returncode:
            raise StackError(f"docker {' '.join(arguments[:2])} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done.stdout

    def answers(self) -> bool:
        """Whether there is an engine."""
        try:
            self.run("version", "--format={{.Server.Version}}", timeout_s=ANSWER_TIMEOUT_S)
        except StackError:
            return False
        return True


@contextmanager
def engine(folder: Path, say: Callable[[str], None]) -> Iterator[Docker]:
    """The machine's, or one that lives in the folder for as long as the block. Raises StackError."""
    config = folder / "config"
    (config / "cli-plugins").mkdir(parents=True)
    docker = Docker({})
    if docker.answers():
        say("the machine's own Docker engine answers")
        yield docker
        return
    if os.geteuid() != 0:
        raise StackError("no Docker engine answers, and only root can start one")
    if shutil.which("dockerd") is None:
        install(["docker.io"], folder / "apt.log", say)
    with _private(folder, say) as host:
        yield Docker({"DOCKER_HOST": host, "DOCKER_CONFIG": str(config)})


@contextmanager
def _private(folder: Path, say: Callable[[str], None]) -> Iterator[str]:
    """The address of an engine without iptables or a bridge of its own: it changes nothing of the machine's network."""
    host = f"unix://{folder}/docker.sock"
    strays = [path for path in _STRAYS if not path.exists()]
    driver = "overlay2" if _has_overlays(folder) else "vfs"
    command = ["dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/docker.pid"]
    command += [f"--host={host}", "--iptables=false", "--bridge=none", f"--storage-driver={driver}"]
    with (folder / "dockerd.log").open("ab") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        docker = Docker({"DOCKER_HOST": host})
        if not wait_until(lambda: server.poll() is not None or docker.answers(), START_DEADLINE_S) or server.poll():
            raise StackError(f"dockerd does not start:\n{(folder / 'dockerd.log').read_text()[-3000:]}")
        say(f"a Docker engine of our own answers (pid {server.pid}, {driver})")
        yield host
    finally:
        server.terminate()
        try:
            server.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(_KILL_DEADLINE_S)
        for path in strays:
            if path.is_file():
                path.unlink()
            shutil.rmtree(path, ignore_errors=True)


def _has_overlays(folder: Path) -> bool:
    """Whether layers can lie over each other here; the other way copies each."""
    place = folder / "overlay"
    parts = {name: place / name for name in ("lower", "upper", "work", "merged")}
    for part in parts.values():
        part.mkdir(parents=True)
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(parts["merged"])]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if mounted:
        subprocess.run(["umount", str(parts["merged"])], capture_output=True, check=True)
    shutil.rmtree(place)
    return mounted


def clear(folder: Path) -> None:
    """Removes the folder, with what still runs from it and what is still mounted below it."""
    _end_leftovers(folder)
    _unmount(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _end_leftovers(folder: Path) -> None:
    """Ends what was left by those that had to be killed: it names the folder in its command, or has its root there."""

    def left() -> Sequence[int]:
        return [pid for pid in map(int, _pids()) if str(folder) in _command(pid) or _root(pid).is_relative_to(folder)]

    for pid in left():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_until(lambda: not left(), _KILL_DEADLINE_S)


def _pids() -> Sequence[str]:
    return [entry.name for entry in Path("/proc").glob("[0-9]*") if int(entry.name) != os.getpid()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _root(pid: int) -> Path:
    try:
        return Path(f"/proc/{pid}/root").readlink()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return Path("/")


def _unmount(folder: Path) -> None:
    """Takes away what is still mounted below the folder, the innermost first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
