"""With the files and variables that a container gets there, each process starts: nothing is missing or contradicts."""

import importlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chassis.settings import PREFIX, load
from deploy.golang import build
from deploy.services import FRONTEND, SERVICES
from tests.chassis.certificates import Office
from tests.kubernetes.objects import environment_of, main_of, of_kind, pod_of
from tests.kubernetes.render import ROOT, Object

MOUNTS = "/etc/ticketrush"
Made = Mapping[tuple[str, str], str]


class Container:
    """The files of a container under a folder of the test's own, and its variables, which name them there."""

    def __init__(self, name: str, objects: Sequence[Object], made: Made, folder: Path) -> None:
        self.folder = folder
        deployment = of_kind(objects, "Deployment")[name]
        main = main_of(deployment)
        office = Office(folder / "office")
        volumes = {volume["name"]: volume for volume in pod_of(deployment)["volumes"]}
        for mount in main["volumeMounts"]:
            if mount["mountPath"].startswith(MOUNTS):
                for file, text in files_of(volumes[mount["name"]], objects, office, made).items():
                    path = Path(self.here(mount["mountPath"])) / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(self.here(text))
        given = of_kind(objects, "ConfigMap")
        self.variables = {}
        for variable, value in environment_of(main).items():
            reference = {} if isinstance(value, str) else value["configMapKeyRef"]
            text = given[reference["name"]]["data"][reference["key"]] if reference else value
            self.variables[variable] = self.here(text)

    def here(self, text: str) -> str:
        return text.replace(MOUNTS, str(self.folder / "mounts"))


def files_of(volume: dict[str, Any], objects: Sequence[Object], office: Office, made: Made) -> dict[str, str]:
    """What is in a volume, by file."""
    if "configMap" in volume:
        return {"jwks.json": json.dumps({"keys": []})}
    secret = volume["secret"]
    certificates = {one["spec"]["secretName"]: one["spec"] for one in of_kind(objects, "Certificate").values()}
    identity = certificates.get(secret["secretName"], {"commonName": "database"})["commonName"]
    office.tls(identity)
    held = dict(zip(("tls.crt", "tls.key", "ca.crt"), (one.read_text() for one in office.files(identity)), strict=True))
    held |= {key: value for (name, key), value in made.items() if name == secret["secretName"]}
    wanted = {item["path"]: item["key"] for item in secret.get("items", ())} or {key: key for key in held}
    return {path: held[key] for path, key in wanted.items()}


@pytest.mark.parametrize("name", [service.name for service in SERVICES])
def test_a_service_takes_its_settings(
    name: str, trial: Sequence[Object], made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = Container(name, trial, made, tmp_path)
    for variable, value in container.variables.items():
        monkeypatch.setenv(variable, value)
    if name == "provider":
        monkeypatch.setenv(f"{PREFIX}STORE_PATH", str(tmp_path / "provider.db"))
    # Ends the test with what is wrong.
    chosen = load(importlib.import_module(f"{name}.__main__").Settings)
    assert chosen.tls is not None
    assert chosen.port_tls is not None
    assert chosen.health_address is not None


def test_the_http_front_starts_and_ends(trial: Sequence[Object], made: Made, tmp_path: Path) -> None:
    container = Container(FRONTEND.name, trial, made, tmp_path)
    free = {f"{PREFIX}{name}_ADDRESS": "127.0.0.1:0" for name in ("LISTEN", "METRICS")}
    program = build(ROOT / "frontend", tmp_path / "frontend")
    environment = {"PATH": os.environ["PATH"]} | container.variables | free
    with subprocess.Popen([str(program)], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["message"] == "listening"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_a_file_that_is_missing_is_missed(
    trial: Sequence[Object], made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = Container("payments", trial, made, tmp_path)
    shutil.rmtree(container.here(f"{MOUNTS}/secrets"))
    for variable, value in container.variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        load(importlib.import_module("payments.__main__").Settings)
