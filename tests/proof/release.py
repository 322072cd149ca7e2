"""The last release as its users have it: its own files, run by its own code, wherever ours has gone since."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.errors import StackError
from deploy.process import Process

ROOT: Final = Path(__file__).parents[2]
# The commit; at a release `make baseline` writes it there.
NOTE: Final = ROOT / "deploy/last_release"
INSTALL_TIMEOUT_S: Final = 600
ASK_TIMEOUT_S: Final = 120

# Typed by its users: all of its own code.
_INSTALL: Final = """
import sys
from pathlib import Path
from deploy.stack import Stack
Stack(Path(sys.argv[1])).up(sys.argv[2:])
"""
# What its own table of services says each is started with.
_SETTINGS: Final = """
import json, sys
from pathlib import Path
from deploy import environment
from deploy.services import SERVICES, settings
facts = environment.read(Path(sys.argv[1]) / "stack.env")
print(json.dumps({service.name: settings(service, facts) for service in SERVICES}))
"""
_WHERE: Final = """
import importlib, json, sys
print(json.dumps([importlib.import_module(name).__file__ for name in sys.argv[1:]]))
"""
_OURS: Final = ("chassis", "contract", "ticketrush.messages.v1.messages_pb2", "ticketrush.v1.ticketing_pb2")


@dataclass(frozen=True)
class Release:
    """An old version, unpacked in a folder."""

    commit: str
    folder: Path

    def install(self, run_dir: Path, names: Collection[str]) -> dict[str, dict[str, str]]:
        """Brings up these parts of a stack of its own; returns the settings of each service. Raises StackError."""
        self._python(_INSTALL, str(run_dir), *names, timeout_s=INSTALL_TIMEOUT_S)
        found: dict[str, dict[str, str]] = json.loads(self._python(_SETTINGS, str(run_dir), timeout_s=ASK_TIMEOUT_S))
        return found

    def start(self, name: str, run_dir: Path, settings: Mapping[str, str]) -> None:
        """Starts one service alone, as an orchestrator that knows nothing but its image and settings."""
        command = [sys.executable, "-m", name]
        Process(name, run_dir).start(
            command, self._environment | dict(settings), directory=self.folder, fingerprint="old"
        )

    def check(self, name: str) -> None:
        """Raises StackError unless what runs as this service is the old code throughout, and not ours."""
        files: list[str] = json.loads(self._python(_WHERE, name, *_OURS, timeout_s=ASK_TIMEOUT_S))
        strange = [file for file in files if not Path(file).is_relative_to(self.folder)]
        if strange:
            raise StackError(f"the old {name} would run {', '.join(strange)}")

    @property
    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TICKETRUSH_")}
        return inherited | {"PYTHONPATH": str(self.folder / "gen/python"), "no_grpc_proxy": "127.0.0.1"}

    def _python(self, program: str, *arguments: str, timeout_s: float) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise StackError(f"the release {self.commit[:7]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


@contextmanager
def unpacked() -> Iterator[Release]:
    """The last release. Raises StackError where git does not have it."""
    commit = NOTE.read_text().strip()
    with tempfile.TemporaryDirectory(prefix="ticketrush-release-") as directory:
        folder = Path(directory).resolve()
        archive = folder / "release.tar"
        done = subprocess.run(
            ["git", "archive", "--format=tar", f"--output={archive}", commit],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StackError(
                f"the last release, {commit}, is not in this clone: it needs the whole history, as from: "
                f"git fetch --unshallow\n{done.stderr}"
            )
        with tarfile.open(archive) as tar:
            tar.extractall(folder / "tree", filter="data")
        yield Release(commit, folder / "tree")
