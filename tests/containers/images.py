"""The images that our containers are made of: official ones where they can be had, stand-ins of their names elsewhere.

A stand-in is this machine's Debian with the same program in it, of Debian's version. What it proves is our own: the
compose file, its order, settings, rights and health checks, and our two images. It does not prove the versions that
the file names. It goes again, with what was made on it: whatever has its label.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from deploy.debian import install
from deploy.errors import StackError
from tests.containers.engine import Docker

ROOT: Final = Path(__file__).parents[2]
STAND_INS: Final = Path(__file__).parent / "stand_ins"
BASE: Final = "ticketrush-stand-in:debian"
# What is made on an image that has it has it too.
LABEL: Final = "ticketrush.stand-in"
PACKAGES: Final = "ca-certificates,python3,python3-pip,postgresql,rabbitmq-server"
SUITE: Final = "bookworm"
PULL_TIMEOUT_S: Final = 240
# On a machine that is busy with other work it took a quarter of an hour.
DEBOOTSTRAP_TIMEOUT_S: Final = 3_600
# How this machine finds packages, for what runs inside.
_FINDING: Final = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOFLAGS")
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


def named() -> list[str]:
    """The official images that the Dockerfile and the services without a profile are made of."""
    found = re.findall(r"^FROM (\S+:\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    services = re.split(r"\n(?=  \w)", (ROOT / "docker-compose.yml").read_text())
    for service in services:
        if "profiles:" not in service:
            found += re.findall(r"^    image: (\S+)", service, re.MULTILINE)
    return sorted({image for image in found if not image.endswith(":local")})


def provide(docker: Docker, folder: Path, say: Callable[[str], None]) -> list[str]:
    """Pulls what can be pulled, and makes the rest; returns the names of the stand-ins. Raises StackError."""
    # Those of a run that was killed would be taken for official ones.
    remove(docker)
    images = named()
    with ThreadPoolExecutor() as pool:
        had = list(pool.map(lambda image: _has(docker, image) or _pull(docker, image), images))
    missing = [image for image, is_there in zip(images, had, strict=True) if not is_there]
    say(f"official images: {', '.join(sorted(set(images) - set(missing))) or 'none can be pulled'}")
    if missing:
        _make_base(docker, folder, say)
        for image in missing:
            _make(docker, folder, image)
            say(f"made a stand-in for {image}")
    return missing


def remove(docker: Docker) -> None:
    """Takes away every stand-in, and every image that was made on one. Raises StackError."""
    ours = f"label={LABEL}"
    images = docker.run("images", f"--filter={ours}", "--filter=dangling=false", "--format={{.Repository}}:{{.Tag}}")
    if images.split():
        docker.run("image", "rm", "--force", *images.split())
    docker.run("image", "prune", "--force", f"--filter={ours}")


def _has(docker: Docker, image: str) -> bool:
    try:
        docker.run("image", "inspect", image)
    except StackError:
        return False
    return True


def _pull(docker: Docker, image: str) -> bool:
    try:
        docker.run("pull", "--quiet", image, timeout_s=PULL_TIMEOUT_S)
    except StackError:
        return False
    return True


def _make_base(docker: Docker, folder: Path, say: Callable[[str], None]) -> None:
    """Debian with all that the stand-ins need, and with what this machine trusts."""
    if shutil.which("debootstrap") is None:
        install(["debootstrap"], folder / "apt.log", say)
    say("making a Debian for stand-ins; that takes some minutes")
    root = folder / "debian"
    _debootstrap(root, folder / "debootstrap.log")
    shutil.copy(_CERTIFICATES, root / str(_CERTIFICATES)[1:])
    if Path("/etc/pip.conf").exists():
        shutil.copy("/etc/pip.conf", root / "etc/pip.conf")
    archive = folder / "debian.tar"
    subprocess.run(["tar", "--create", f"--file={archive}", f"--directory={root}", "."], check=True)
    shutil.rmtree(root)
    found = {name: os.environ[name] for name in (*_FINDING, *_PROXIES) if os.environ.get(name)}
    changes = [part for name, value in found.items() for part in ("--change", f'ENV {name}="{value}"')]
    docker.run("import", *changes, f"--change=LABEL {LABEL}=yes", str(archive), BASE)
    archive.unlink()


def _debootstrap(root: Path, output: Path) -> None:
    with output.open("ab") as log:
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), *_mirror()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=DEBOOTSTRAP_TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        raise StackError(f"debootstrap failed:\n{output.read_text()[-3000:]}")


def _mirror() -> Sequence[str]:
    """Where this machine has its packages from; debootstrap's own default where that cannot be told."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format=$(REPO_URI)", f"Release: {SUITE}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.split()[:1]


def _make(docker: Docker, folder: Path, image: str) -> None:
    name = image.partition(":")[0].rpartition("/")[2]
    recipe = STAND_INS / f"{name}.Dockerfile"
    if not recipe.exists():
        raise StackError(f"{image} cannot be pulled, and there is no stand-in for it")
    context = folder / f"context-{name}"
    shutil.copytree(STAND_INS, context)
    if name == "golang":
        go = [sys.executable, "-m", "deploy.golang", "env", "GOROOT"]
        found = subprocess.run(go, cwd=ROOT / "frontend", capture_output=True, text=True, check=True)
        shutil.copytree(found.stdout.strip(), context / "go", symlinks=True)
    # The classic builder, which needs no plugin.
    classic = Docker(docker.environment | {"DOCKER_BUILDKIT": "0"})
    classic.run("build", "--network=host", f"--file={context / recipe.name}", f"--tag={image}", str(context))
    shutil.rmtree(context)
