"""Installs Debian packages where we may, without starting the system services they bring. Standard library only."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from deploy.errors import StackError
from deploy.lock import shared_folder

INSTALL_DEADLINE_S: Final = 1_200.0
# Another apt may be at work, for instance the one that updates a fresh machine by itself.
LOCK_DEADLINE_S: Final = 300
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_NO_CLUSTER: Final = Path("/etc/postgresql-common/createcluster.d/ticketrush.conf")
# Package -> the service of the system that it brings.
_SYSTEM_SERVICES: Final = MappingProxyType(
    {
        "postgresql": "postgresql",
        "rabbitmq-server": "rabbitmq-server",
        "docker.io": "docker",
        "prometheus": "prometheus",
        "prometheus-postgres-exporter": "prometheus-postgres-exporter",
        "patroni": "patroni",
        "etcd-server": "etcd",
        "haproxy": "haproxy",
    }
)


def install(packages: Sequence[str], log: Path, say: Callable[[str], None]) -> None:
    """Installs packages by apt as root or through passwordless sudo; its output goes to the log.

    Raises StackError with the one line that says what to install where that is not possible.
    """
    by_hand = f"install them with: apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise StackError(
            f"missing: {' '.join(packages)}, and there is no apt-get here; install them with your system's tool"
        )
    root = _become_root()
    if root is None:
        raise StackError(f"missing: {' '.join(packages)}; as root, {by_hand}")
    say(f"installing {' and '.join(packages)} by apt (output in {log})")
    log.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(), log.open("ab") as output, _system_services_left_alone(root, packages):
        apt = [
            *root,
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-o",
            f"DPkg::Lock::Timeout={LOCK_DEADLINE_S}",
            "-y",
        ]
        end = time.monotonic() + INSTALL_DEADLINE_S
        for command in ([*apt, "update"], [*apt, "install", "--no-install-recommends", *packages]):
            try:
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    check=True,
                    timeout=end - time.monotonic(),
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                raise StackError(f"apt could not install {' '.join(packages)} (see {log}); {by_hand}") from error


def program(package: str, *names: str) -> str:
    """The path of the first of these programs that is there, one of them brought by the package.

    Raises StackError, which says what to install, where none can be had.
    """
    if found := _found(names):
        return found
    own = shared_folder()
    with (own / f"{package}.lock").open("a") as lock:
        # Several processes may want it at once: one installs, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _found(names):
            install([package], own / "apt.log", print)
    return _found(names) or names[0]


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Each takes INSTALL_DEADLINE_S at most.

    A second `apt-get update` would fail instead of waiting, and whoever is done first would let services start.
    """
    with (shared_folder() / "apt.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _found(names: Sequence[str]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


def _become_root() -> list[str] | None:
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "--non-interactive"]
    if shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0:
        return sudo
    return None


@contextlib.contextmanager
def _system_services_left_alone(root: Sequence[str], packages: Sequence[str]) -> Iterator[None]:
    """Debian starts a server as soon as it is installed, and at each boot; ours are private, so both are prevented."""
    brought = [service for package, service in _SYSTEM_SERVICES.items() if package in packages]
    if not brought:
        yield
        return
    policy_is_ours = not _POLICY.exists()
    if policy_is_ours:
        _write(root, _POLICY, "#!/bin/sh\nexit 101\n", mode="755")
    _write(root, _NO_CLUSTER, "create_main_cluster = false\n", mode="644")
    try:
        yield
    finally:
        for name in brought:
            subprocess.run([*root, "update-rc.d", name, "disable"], capture_output=True, check=False)
        ours = [str(_NO_CLUSTER)] + [str(_POLICY)] * policy_is_ours
        subprocess.run([*root, "rm", "-f", *ours], check=True)


def _write(root: Sequence[str], path: Path, text: str, *, mode: str) -> None:
    command = [*root, "install", "-D", "-m", mode, "/dev/stdin", str(path)]
    subprocess.run(command, input=text.encode(), check=True)
