"""What `kubectl apply` would be given: the folders of deploy/kubernetes, put together by kustomize."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.golang import BUILD_TIMEOUT_S, BuildError, compiler_for

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
BASE: Final = FOLDER / "base"
HIGHLY_AVAILABLE: Final = FOLDER / "overlays" / "highly-available"
CARD_PROCESSOR: Final = FOLDER / "components" / "simulated-card-processor"
# Their versions are in its go.mod and go.sum.
TOOLS: Final = FOLDER / "tools"
PROGRAMS: Final = ROOT / ".venv" / "go"
BUILD_DEADLINE_S: Final = 60
Object = dict[str, Any]


class OfflineError(Exception):
    """What a check needs is not on this machine, and could not be brought. Says why."""


class UnsoundError(Exception):
    """Kustomize does not take what is written. Says why."""


def kustomize() -> Path:
    """The program, built where it is not. Raises OfflineError."""
    try:
        go = compiler_for(TOOLS)
    except BuildError as error:
        raise OfflineError(str(error)) from error
    environment = os.environ | {"CGO_ENABLED": "0", "GOBIN": str(PROGRAMS)}
    command = [go, "install", "-mod=readonly", "tool"]
    done = subprocess.run(
        command, cwd=TOOLS, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise OfflineError(f"kustomize cannot be built: {done.stderr.strip()[-300:]}")
    return PROGRAMS / "kustomize"


def build(folder: Path, program: Path) -> list[Object]:
    """The objects of a kustomization. Raises UnsoundError."""
    command = [str(program), "build", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_DEADLINE_S, check=False)
    if done.returncode or done.stderr:
        # It warns of what it will not take for much longer.
        raise UnsoundError(done.stderr.strip())
    return read(done.stdout)


def build_trial(program: Path) -> list[Object]:
    """The overlay with the simulated card processor, as docs/kubernetes.md puts them together. Raises UnsoundError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        overlay, component = (os.path.relpath(part, folder) for part in (HIGHLY_AVAILABLE, CARD_PROCESSOR))
        (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [overlay], "components": [component]}))
        return build(folder, program)


def read(text: str) -> list[Object]:
    """The objects in a file; its words are taken as Kubernetes takes them, for which `yes` is no word."""
    return [found for found in yaml.load_all(text, yaml.CSafeLoader) if found]


def name_of(found: Object) -> str:
    """For people: kind and name."""
    return f"{found.get('kind')}/{found.get('metadata', {}).get('name')}"
