"""What processes are told: settings that they know, ports of the table, and secrets by reference alone."""

import importlib
import re
from collections.abc import Sequence
from typing import Any, Final

import pytest

from chassis.settings import PREFIX, Settings
from deploy import environment
from deploy.services import BROKER_USERS, FRONTEND, IDENTITIES, OPERATOR, PROCESSES, ROLES, SCHEMAS, SERVICES, Service
from tests.kubernetes.objects import (
    WORKLOADS,
    containers_of,
    environment_of,
    main_of,
    of_kind,
    pod_of,
    secrets_in,
)
from tests.kubernetes.render import FOLDER, ROOT, Object

DOC: Final = ROOT / "docs" / "kubernetes.md"
BY_NAME: Final = {process.name: process for process in PROCESSES}
FROM_FILE: Final = "_FILE"
# Made in the cluster: by cert-manager, CloudNativePG and the RabbitMQ operator.
MADE_THERE: Final = re.compile(r".*-tls|ca|database-ca|database-app|rabbitmq-default-user")
# What a setting may hold that says who somebody is.
SECRET: Final = re.compile(r"(PASSWORD|TOKEN|SECRET|_URL|DATABASE_URL|AMQP_URL)$")
# Of the table, but for a machine that everybody on it trusts.
NOT_HERE: Final = {"SIGN_IN_KEY", "AUTH_ISSUER", "AUTH_AUDIENCE"}


def known_to(process: Service) -> set[str]:
    """The names, without prefix, of the settings in its code."""
    if process.is_http:
        text = (ROOT / "frontend" / "settings.go").read_text()
        return set(re.findall(r'^\t\{"([A-Z_]+)", ', text, re.MULTILINE))
    chosen: type[Settings] = importlib.import_module(f"{process.name}.__main__").Settings
    return {name.upper() for name in chosen.model_fields}


def told_to(deployment: Object) -> dict[str, Any]:
    """What its main container is told, by setting: without prefix, and without the `_FILE` of what is in one."""
    told = {}
    for variable, value in environment_of(main_of(deployment)).items():
        assert variable.startswith(PREFIX)
        told[variable.removeprefix(PREFIX).removesuffix(FROM_FILE)] = value
    return told


def listed_secrets() -> set[tuple[str, str]]:
    """Those of the page for people, with their keys."""
    rows = re.findall(r"^\| `([a-z]+)` \| (`.+?) \|", DOC.read_text(), re.MULTILINE)
    return {(secret, key) for secret, keys in rows for key in re.findall(r"`([a-z-]+)`", keys)}


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_a_process_knows_what_it_is_told_and_is_told_what_the_table_says(
    process: Service, trial: Sequence[Object]
) -> None:
    told = told_to(of_kind(trial, "Deployment")[process.name]).keys()
    assert told <= known_to(process)
    wanted = {setting.removesuffix(FROM_FILE) for setting in process.settings}
    assert wanted - (NOT_HERE if process.is_http else set()) <= told
    assert {"LISTEN_ADDRESS", "METRICS_ADDRESS"} <= told
    # Nothing leaves a machine in plaintext here, and nobody is given a token for the asking.
    assert not {"PUBLIC_PLAINTEXT", "GATEWAY_PLAINTEXT", "SIGN_IN_KEY"} & told


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_ports_and_addresses_are_those_of_the_table(process: Service, trial: Sequence[Object]) -> None:
    deployment = of_kind(trial, "Deployment")[process.name]
    told = told_to(deployment)
    assert told["LISTEN_ADDRESS"] == f"0.0.0.0:{process.port}"
    assert told["METRICS_ADDRESS"] == f"0.0.0.0:{process.metrics_port}"
    ports = {one["name"]: one["containerPort"] for one in main_of(deployment)["ports"]}
    assert ports.pop("metrics") == process.metrics_port
    assert ports.pop("https" if process.is_http else "grpc") == process.port
    for setting, value in told.items():
        name = setting.removesuffix("_ADDRESS").lower()
        if setting.endswith("_ADDRESS") and name in BY_NAME and isinstance(value, str):
            assert value == f"{name}:{BY_NAME[name].port}"
    services = of_kind(trial, "Service")
    if process.name in services:
        [port] = services[process.name]["spec"]["ports"]
        assert port["port"] == process.port
        assert port["targetPort"] in {"grpc", "https"}


def test_whoever_is_called_has_a_name(trial: Sequence[Object]) -> None:
    called = {FRONTEND.name, "gateway"} | {
        other.name for process in PROCESSES for other in PROCESSES if other.address in process.settings.values()
    }
    assert of_kind(trial, "Service").keys() == called


def test_each_file_that_a_process_is_told_of_is_there(trial: Sequence[Object]) -> None:
    for name, deployment in of_kind(trial, "Deployment").items():
        volumes = {volume["name"]: volume for volume in pod_of(deployment)["volumes"]}
        for container in containers_of(deployment):
            places = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
            for variable, value in environment_of(container).items():
                if not (isinstance(value, str) and value.startswith("/etc/")):
                    continue
                folder, _, file = value.rpartition("/")
                secret = places[folder].get("secret", {})
                keys = {item["path"] for item in secret.get("items", ())}
                assert not keys or file in keys, f"{name}: {variable}"


def test_no_secret_is_written_down_and_none_is_in_the_environment_of_a_service(trial: Sequence[Object]) -> None:
    assert not of_kind(trial, "Secret")
    assert not [file for file in FOLDER.rglob("*.yaml") if "stringData" in file.read_text()]
    for name, deployment in of_kind(trial, "Deployment").items():
        for container in containers_of(deployment):
            for variable, value in environment_of(container).items():
                assert not SECRET.search(variable), f"{name}: {variable}"
                assert isinstance(value, str) or "secretKeyRef" not in value, f"{name}: {variable}"


def test_the_secrets_that_are_needed_are_those_that_the_page_lists(highly_available: Sequence[Object]) -> None:
    needed = {one for workload in of_kind(highly_available, *WORKLOADS).values() for one in secrets_in(workload)}
    needed |= {
        (one["name"], one["key"])
        for found in of_kind(highly_available, "TriggerAuthentication").values()
        for one in found["spec"]["secretTargetRef"]
    }
    yours = {(secret, key) for secret, key in needed if not MADE_THERE.fullmatch(secret)}
    assert listed_secrets() == yours


def test_migrate_is_told_the_password_of_each_role_and_user(base: Sequence[Object]) -> None:
    told = environment_of(main_of(of_kind(base, "Job")["migrate"]))
    own = {role.password_variable: (role.service, "database-password") for role in ROLES}
    own |= {user.password_variable: (user.service, "amqp-password") for user in BROKER_USERS}
    assert own.keys() == set(environment.PASSWORD_VARIABLES) & told.keys()
    for variable, (name, key) in own.items():
        assert told[variable] == {"secretKeyRef": {"name": name, "key": key}}
    assert {"DATABASE_URL", "AMQP_URL", "RABBITMQ_MANAGEMENT_URL"} <= told.keys()


def test_who_has_a_schema_waits_for_its_migrations(base: Sequence[Object]) -> None:
    schemas = {role.service: role.schemas[0] for role in ROLES if role.service != OPERATOR}
    for name, deployment in of_kind(base, "Deployment").items():
        waits = [one["command"] for one in pod_of(deployment).get("initContainers", ())]
        expected = [["python", "-m", "deploy.await_schema", schemas[name]]] if name in schemas else []
        assert waits == expected
    assert set(schemas.values()) == set(SCHEMAS)


def test_each_identity_has_its_certificate_and_each_service_sees_its_own(trial: Sequence[Object]) -> None:
    certificates = of_kind(trial, "Certificate")
    for name in IDENTITIES:
        spec = certificates[name]["spec"]
        assert (spec["commonName"], spec["dnsNames"], spec["secretName"]) == (name, [name], f"{name}-tls")
        assert {"server auth", "client auth"} <= set(spec["usages"])
        assert spec["issuerRef"]["name"] == "ticketrush"
    # What only serves is nobody to a service, whatever its name.
    for name in certificates.keys() - {*IDENTITIES, "ca"}:
        assert "client auth" not in certificates[name]["spec"]["usages"]
    deployments = of_kind(trial, "Deployment")
    for service in SERVICES:
        shown = {secret for secret, _ in secrets_in(deployments[service.name]) if secret.endswith("-tls")}
        assert shown == {f"{service.name}-tls"} | ({f"{service.name}-public-tls"} if service.is_public else set())
    # A caller of the public port as any: it has no identity.
    shown = {secret for secret, _ in secrets_in(deployments[FRONTEND.name]) if secret.endswith("-tls")}
    assert shown == {"frontend-public-tls"}


def test_the_tools_of_people_find_what_they_are_told_of(base: Sequence[Object]) -> None:
    told = environment_of(main_of(of_kind(base, "CronJob")["operator"])).keys()
    code = "".join(file.read_text() for folder in ("cli", "ops") for file in (ROOT / folder).rglob("*.py"))
    assert [name for name in told if f'"{name.removeprefix(PREFIX)}"' not in code] == [f"{PREFIX}TLS_DIR"]
    assert "TLS_DIR" in code
    assert of_kind(base, "CronJob")["operator"]["spec"]["suspend"] is True
