"""What docs/kubernetes.md tells people to type makes what the manifests ask for."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from deploy.services import BROKER_USERS, DATABASE, ROLES
from tests.kubernetes.check import judged
from tests.kubernetes.objects import environment_of, main_of, of_kind, pod_of
from tests.kubernetes.page import block
from tests.kubernetes.render import FOLDER, Object, OfflineError, build, kustomize
from tests.kubernetes.test_settings import listed_secrets


def test_all_secrets_are_made_and_no_password_twice(made: dict[tuple[str, str], str]) -> None:
    assert made.keys() == listed_secrets()
    drawn = [value for (_, key), value in made.items() if key.endswith(("-password", "-secret"))]
    assert len(set(drawn)) == len(drawn)
    assert {len(value) for value in drawn} == {32}


def test_each_url_logs_in_as_its_own_role_and_knows_the_server(
    made: dict[tuple[str, str], str], base: Sequence[Object]
) -> None:
    for role in ROLES:
        told = conninfo_to_dict(made[role.service, "database-url"])
        assert (told["user"], told["password"]) == (role.name, made[role.service, "database-password"])
        assert (told["host"], told["port"], told["dbname"]) == ("database-rw", "5432", DATABASE)
        assert told["sslmode"] == "verify-full"
        assert told["sslrootcert"] in files_of(base, role.service)
    for user in BROKER_USERS:
        url = urlsplit(made[user.service, "amqp-url"])
        assert (url.username, url.password) == (user.name, made[user.service, "amqp-password"])
        assert (url.scheme, url.port, url.path) == ("amqps", 5671, "/")
        assert url.hostname in of_kind(base, "Certificate")["rabbitmq"]["spec"]["dnsNames"]
        assert parse_qs(url.query)["cafile"][0] in files_of(base, user.service)


def files_of(objects: Sequence[Object], name: str) -> set[str]:
    """Of the certificates that a process sees."""
    workload = of_kind(objects, "Deployment", "CronJob")[name]
    secrets = {volume["name"]: volume.get("secret", {}) for volume in pod_of(workload)["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in main_of(workload)["volumeMounts"]}
    usual = [{"path": "ca.crt"}]
    return {
        f"{mounts[volume]}/{item['path']}" for volume, secret in secrets.items() for item in secret.get("items", usual)
    }


@pytest.mark.parametrize("trial", [False, True], ids=["production", "trial"])
def test_the_kustomization_of_the_page_is_sound_and_its_values_arrive(tmp_path: Path, trial: bool) -> None:
    text = block("yaml", "kind: Kustomization").replace("# components", "components" if trial else "# components")
    (tmp_path / "kustomization.yaml").write_text(text)
    (tmp_path / "jwks.json").write_text('{"keys": []}\n')
    (tmp_path / "ticketrush" / "deploy").mkdir(parents=True)
    (tmp_path / "ticketrush" / "deploy" / "kubernetes").symlink_to(FOLDER)
    try:
        objects = build(tmp_path, kustomize())
    except OfflineError as error:
        pytest.skip(f"offline: {error}")
    assert judged(objects).problems == []
    deployments = of_kind(objects, "Deployment")
    assert ("provider" in deployments) == trial
    gateway = main_of(deployments["gateway"])
    assert gateway["image"] == "YOURS/services:0.1.0"
    reference = environment_of(gateway)["TICKETRUSH_AUTH_ISSUER"]["configMapKeyRef"]
    given = yaml.safe_load(text)["configMapGenerator"][0]["literals"]
    told = of_kind(objects, "ConfigMap")[reference["name"]]["data"]
    assert set(given) <= {f"{key}={value}" for key, value in told.items()}
    volumes = {volume["name"]: volume for volume in pod_of(deployments["gateway"])["volumes"]}
    assert volumes["issuer"]["configMap"]["name"] in of_kind(objects, "ConfigMap")
