"""`make compose-check`: our compose file brought up for real, a purchase through it, and nothing left behind.

On the machine's Docker engine where it answers; else, as root on Debian, on one of our own. The file is used as it is,
from a copy of the tree, under a project name of its own; what is added to it is how images are built where containers
have no way out.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console

from deploy.errors import StackError
from tests.containers import images, plugin
from tests.containers.engine import Docker, clear, engine

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = "ticketrush-check"
STEP_TIMEOUT_S: Final = 2_400
LOG_LINES: Final = 40
# As a shell tells of Ctrl-C.
INTERRUPTED: Final = 128 + signal.SIGINT
_BUILD_NETWORK: Final = """
services:
  migrate: {build: {network: host}}
  frontend: {build: {network: host}}
"""
console: Final = Console(highlight=False, width=150)


def check(folder: Path, say: Callable[[str], None]) -> None:
    """Raises StackError, with what the containers said, when it does not come up or does not sell."""
    with engine(folder, say) as docker:
        plugin.provide(docker, folder, say)
        try:
            stand_ins = images.provide(docker, folder, say)
            _sell(docker, folder, say)
        finally:
            images.remove(docker)
        say(f"stand-ins were: {', '.join(stand_ins) or 'none'}")


def _sell(docker: Docker, folder: Path, say: Callable[[str], None]) -> None:
    tree = _copy_of_the_tree(folder)
    environment = docker.environment | {
        "RUNTIME": "compose",
        "COMPOSE_PROJECT_NAME": PROJECT,
        "COMPOSE_FILE": "docker-compose.yml:build-network.yml",
        "TICKETRUSH_GATEWAY_PORT": "0",
        "TICKETRUSH_HTTP_PORT": "0",
        "PYTHONPATH": f"{tree}:{tree}/gen/python",
    }
    try:
        with _told(tree, environment):
            _step("docker compose up --build --wait", tree, environment, "-m", "deploy", "up", say=say)
            _step("reserve, pay, expire, refund", tree, environment, "-m", "cli.demo", say=say)
            fsck = "from cli.__main__ import app; app(['fsck'])"
            _step("ticketrush fsck", tree, environment, "-c", fsck, say=say)
    finally:
        _step("docker compose down --volumes", tree, environment, "-m", "deploy", "clean", say=say)


def _copy_of_the_tree(folder: Path) -> Path:
    tree = folder / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    (tree / "build-network.yml").write_text(_BUILD_NETWORK)
    return tree


def _step(what: str, tree: Path, environment: dict[str, str], *arguments: str, say: Callable[[str], None]) -> None:
    begin = time.monotonic()
    step = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with step:
        try:
            said, _ = step.communicate(timeout=STEP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            _end(step)
            raise StackError(f"{what} took longer than {STEP_TIMEOUT_S} s") from error
        except KeyboardInterrupt:
            _end(step)
            raise
    if step.returncode:
        raise StackError(f"{what} failed:\n{said[-12_000:]}")
    say(f"{what}: {time.monotonic() - begin:.0f} s")


def _end(step: subprocess.Popen[str]) -> None:
    """With all that it started: a `docker compose up` that lives on makes again what is taken away next."""
    os.killpg(step.pid, signal.SIGKILL)


@contextlib.contextmanager
def _told(tree: Path, environment: dict[str, str]) -> Iterator[None]:
    """Adds to a failure what the containers said."""
    try:
        yield
    except StackError as error:
        own = Docker(environment)
        states = own.run("compose", "ps", "--all", cwd=tree)
        raise StackError(f"{error}\n{states}\n{own.run('compose', 'logs', f'--tail={LOG_LINES}', cwd=tree)}") from error


def main() -> None:
    """Exit code 0 when it came up and sold, 130 after Ctrl-C."""
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    begin = time.monotonic()
    # Not in memory: it is large.
    folder = Path(tempfile.mkdtemp(prefix="ticketrush-docker-", dir="/var/tmp"))
    try:
        check(folder, console.print)
    except StackError as error:
        console.print(f"error: {error}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(INTERRUPTED)
    finally:
        clear(folder)
    console.print(f"it came up, sold, and is gone: {time.monotonic() - begin:.0f} s")


def _as_ctrl_c(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
