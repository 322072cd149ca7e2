"""Docker's compose plugin: the machine's, or one built from its Go module where there is none."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deploy.errors import StackError
from tests.containers.engine import Docker

VERSION: Final = "v2.40.3"
MODULE: Final = "github.com/docker/compose/v2"
# Beside much other work on two cores it took an hour.
BUILD_TIMEOUT_S: Final = 5_400
_FLAGS: Final = f"-s -w -X {MODULE}/internal.Version={VERSION}"
# Kept beside the other tools: it takes minutes to build.
BUILT: Final = Path(__file__).parents[2] / ".venv" / "docker-compose" / VERSION / "docker-compose"


def provide(docker: Docker, folder: Path, say: Callable[[str], None]) -> None:
    """Sees to it that `docker compose` works. Raises StackError."""
    try:
        said = docker.run("compose", "version", "--short").strip()
    except StackError:
        if not BUILT.exists():
            say(f"building the compose plugin {VERSION} from its Go module")
            _build(folder / "compose")
        config = Path(docker.environment.setdefault("DOCKER_CONFIG", str(folder / "config")))
        shutil.copy(BUILT, config / "cli-plugins" / "docker-compose")
        said = docker.run("compose", "version", "--short").strip()
    say(f"docker compose {said}")


def _build(folder: Path) -> None:
    folder.mkdir()
    (folder / "go.mod").write_text("module ticketrush/compose\n\ngo 1.24\n")
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    unfinished = BUILT.with_suffix(".new")
    for arguments in (
        ["get", f"{MODULE}/cmd@{VERSION}"],
        ["build", "-trimpath", f"-ldflags={_FLAGS}", f"-o={unfinished}", f"{MODULE}/cmd"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "deploy.golang", *arguments],
            cwd=folder,
            env=os.environ | {"GOFLAGS": "-mod=mod"},
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise StackError(f"the compose plugin cannot be built:\n{done.stderr[-3000:]}")
    unfinished.replace(BUILT)
