"""docker-compose.yml runs what the table says: nothing more, nothing less, nothing else."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, cast

import jwt
import pytest
from ruamel.yaml import YAML

from deploy import compose, environment, issuer
from deploy.environment import role_url
from deploy.errors import StackError
from deploy.services import (
    ADMINISTRATOR,
    BROKER_ADMINISTRATOR,
    BROKER_USERS,
    CERTIFICATES,
    DATABASE,
    FRONTEND,
    LOOPBACK,
    MIGRATE,
    OPERATOR,
    POSTGRES,
    PROCESSES,
    RABBITMQ,
    ROLES,
    SERVERS,
    SERVICES,
    TLS_DIR,
    Service,
    settings,
)

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
PARTS: dict[str, dict[str, Any]] = COMPOSE["services"]
BY_NAME = {service.name: service for service in SERVICES}
ISSUER = "/etc/ticketrush/issuer"
OBSERVERS = {"prometheus", "grafana", "jaeger", "postgres-exporter"}
# Off until somebody says where, and then all of them: a stack on one machine is looked at.
TRACES = {"TICKETRUSH_OTLP_ENDPOINT": "", "TICKETRUSH_TRACE_RATIO": "1"}
CONDITIONS = dict.fromkeys((MIGRATE, CERTIFICATES), "service_completed_successfully")

each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def resolved(text: str) -> str:
    """Compose's interpolation, each variable standing for its own name or its default."""
    return re.sub(r"\$\{(\w+)(?:(:-)([^}]*)|:\?[^}]*)?\}", lambda m: m[3] if m[2] else m[1], text)


def facts() -> dict[str, str]:
    """What stack.env would say inside the network of the containers; passwords are the names of their variables."""
    admin = f"postgresql://{ADMINISTRATOR}:{environment.ADMINISTRATOR_PASSWORD}@{POSTGRES.name}:5432/{DATABASE}"
    known = {
        "AMQP_URL": f"amqp://{BROKER_ADMINISTRATOR}:{environment.BROKER_PASSWORD}@{RABBITMQ.name}:5672/",
        "DATABASE_URL": admin,
        "PROVIDER_STORE_PATH": "/var/lib/ticketrush/provider.db",
        "AUTH_JWKS": f"{ISSUER}/jwks.json",
        "AUTH_ISSUER": issuer.NAME,
        "AUTH_AUDIENCE": issuer.AUDIENCE,
        "TRUSTED_PROXIES": "172.16.0.0/12",
        "SHARDS": "1",
        TLS_DIR: compose.CONTAINER_TLS_DIR,
    }
    known |= {
        user.amqp_url: f"amqp://{user.name}:{user.password_variable}@{RABBITMQ.name}:5672/" for user in BROKER_USERS
    }
    known |= {role.database_url: role_url(admin, role, role.password_variable) for role in ROLES}
    return known | {service.address: f"{service.name}:{service.port}" for service in SERVICES}


def test_it_runs_the_servers_the_services_the_http_front_and_two_jobs() -> None:
    always = {name for name, part in PARTS.items() if "profiles" not in part}
    assert always == {server.name for server in SERVERS} | {MIGRATE, CERTIFICATES, FRONTEND.name} | BY_NAME.keys()


def test_who_looks_on_comes_only_when_asked_for_and_is_published_on_loopback_alone() -> None:
    assert {name for name, part in PARTS.items() if part.get("profiles") == ["obs"]} == OBSERVERS
    assert PARTS.keys() - OBSERVERS == {name for name, part in PARTS.items() if "profiles" not in part}
    ports = [resolved(port) for name in sorted(OBSERVERS) for port in PARTS[name].get("ports", [])]
    assert ports == [f"{LOOPBACK}:3000:3000", f"{LOOPBACK}:16686:16686", f"{LOOPBACK}:9090:9090"]


@each_service
def test_a_service_has_the_settings_of_the_table(service: Service) -> None:
    listening = {
        service.address: f"0.0.0.0:{service.port}",  # within the containers' own network
        service.metrics_address: f"0.0.0.0:{service.metrics_port}",
    }
    written = {name: resolved(value) for name, value in PARTS[service.name]["environment"].items()}
    # Docker publishes the port on loopback alone, as another test says.
    open_port = {"TICKETRUSH_PUBLIC_PLAINTEXT": "yes"} if service.is_public else {}
    assert written == settings(service, facts() | listening) | open_port | TRACES


@each_service
def test_a_service_starts_after_what_the_table_says(service: Service) -> None:
    written = {name: how["condition"] for name, how in PARTS[service.name].get("depends_on", {}).items()}
    assert written == {name: CONDITIONS.get(name, "service_healthy") for name in service.depends_on}


@each_service
def test_a_service_runs_as_its_own_module_and_is_asked_for_its_own_health(service: Service) -> None:
    part = PARTS[service.name]
    assert part["command"] == ["python", "-m", service.name]
    flags = ["--public"] if service.is_public else []
    asked = [*flags, f"{LOOPBACK}:{service.port}", service.name]
    assert part["healthcheck"]["test"] == ["CMD", "python", "-m", "chassis.healthcheck", *asked]


@each_service
def test_a_service_is_published_on_loopback_alone(service: Service) -> None:
    own = "50051" if service.name == "gateway" else ""
    expected = [f"{LOOPBACK}:{own}:{service.port}", f"{LOOPBACK}::{service.metrics_port}"]
    assert list(map(resolved, PARTS[service.name]["ports"])) == expected


def test_the_http_front_is_what_it_is_locally_without_the_sign_in_and_may_write_nowhere() -> None:
    part = PARTS[FRONTEND.name]
    known = [*FRONTEND.settings.values(), FRONTEND.address, FRONTEND.metrics_address]
    local = settings(FRONTEND, {fact: fact for fact in known})
    signing = {f"TICKETRUSH_{name}" for name in ("SIGN_IN_KEY", "AUTH_ISSUER", "AUTH_AUDIENCE")}
    here = {"TICKETRUSH_TOKEN", "TICKETRUSH_GATEWAY_PLAINTEXT", "TICKETRUSH_PUBLIC_PLAINTEXT"}
    assert part["environment"].keys() == local.keys() - signing - {"TICKETRUSH_TOKEN_FILE"} | here | TRACES.keys()
    assert part["environment"]["TICKETRUSH_GATEWAY_ADDRESS"] == f"gateway:{BY_NAME['gateway'].port}"
    assert part["environment"]["TICKETRUSH_LISTEN_ADDRESS"] == f"0.0.0.0:{FRONTEND.port}"
    assert list(map(resolved, part["ports"])) == [
        f"{LOOPBACK}:{FRONTEND.port}:{FRONTEND.port}",
        f"{LOOPBACK}::{FRONTEND.metrics_port}",
    ]
    assert part["read_only"] is True
    assert part["depends_on"] == {"gateway": {"condition": "service_healthy"}}
    assert part["healthcheck"]["test"] == ["CMD", "/frontend", "healthcheck"]
    stage = (ROOT / "Dockerfile").read_text().partition("AS frontend\n")[2].partition("\nFROM")[0]
    assert "USER 10001:10001" in stage


def test_the_token_of_the_http_front_is_kept_in_env_while_it_lasts(docker: Path) -> None:
    (docker / "running").write_text(running())
    plays(docker, 'case "$2" in ps) cat running ;; esac')
    compose.up(docker, lambda _: None)
    first = environment.read(docker / ".env")["TICKETRUSH_FRONTEND_TOKEN"]
    assert jwt.decode(first, options={"verify_signature": False})["roles"] == ["service"]
    compose.up(docker, lambda _: None)
    assert environment.read(docker / ".env")["TICKETRUSH_FRONTEND_TOKEN"] == first


def test_the_gateway_reads_the_public_part_of_the_local_issuer_and_nothing_else_of_the_run_directory() -> None:
    public = issuer.Issuer(Path(".run") / "issuer").public_folder
    parts = {name: part for name, part in PARTS.items() if name not in OBSERVERS}
    from_here = [volume for part in parts.values() for volume in part.get("volumes", []) if volume.startswith(".")]
    assert from_here == [f"./{public}:{ISSUER}:ro"]
    assert from_here[0] in PARTS["gateway"]["volumes"]
    mounted = [volume for name, part in parts.items() for volume in part.get("volumes", []) if name != "gateway"]
    assert not [volume for volume in mounted if volume.startswith(".")]


def test_who_looks_on_reads_files_of_the_repository_that_are_there_and_may_not_change_them() -> None:
    volumes = [volume for name in OBSERVERS for volume in PARTS[name].get("volumes", []) if volume.startswith(".")]
    assert len(volumes) == 5
    for volume in volumes:
        source, _, mode = volume.split(":")
        assert source.startswith("./deploy/observability/")
        assert (ROOT / source).exists()
        assert mode == "ro"


def test_grafana_lets_anybody_look_and_nobody_in() -> None:
    settings_of_grafana = PARTS["grafana"]["environment"]
    assert settings_of_grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert "GF_AUTH_ANONYMOUS_ORG_ROLE" not in settings_of_grafana  # Viewer by default
    assert settings_of_grafana["GF_AUTH_BASIC_ENABLED"] == "false"
    assert settings_of_grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_the_servers_are_published_on_loopback_alone_with_the_ports_of_the_table() -> None:
    for server in SERVERS:
        assert PARTS[server.name]["ports"] == [f"{LOOPBACK}::{port}" for port in server.ports.values()]


def test_the_migration_gets_the_servers_and_every_password() -> None:
    written = {name: resolved(value) for name, value in PARTS[MIGRATE]["environment"].items()}
    variables = [role.password_variable for role in ROLES] + [user.password_variable for user in BROKER_USERS]
    passwords = {variable: variable for variable in variables}
    page = f"http://{RABBITMQ.name}:{RABBITMQ.ports['rabbitmq_management']}"
    servers = {name: facts()[name] for name in ("DATABASE_URL", "AMQP_URL")} | {"RABBITMQ_MANAGEMENT_URL": page}
    assert written == servers | passwords | {"TICKETRUSH_SHARDS": facts()["SHARDS"]}
    waits = {name: how["condition"] for name, how in PARTS[MIGRATE]["depends_on"].items()}
    assert waits == {server.name: "service_healthy" for server in SERVERS}
    assert PARTS[MIGRATE]["command"] == ["python", "-m", "deploy", "migrate"]
    assert PARTS[MIGRATE]["restart"] == "no"


def test_each_service_sees_its_own_key_alone_and_may_not_change_it() -> None:
    job = PARTS[CERTIFICATES]
    assert job["command"] == ["python", "-m", "deploy.certificates", compose.CONTAINER_TLS_DIR]
    assert job["restart"] == "no"
    own = {name: f"tls-{name}:{compose.CONTAINER_TLS_DIR}/{name}" for name in BY_NAME}
    assert job["volumes"] == [f"tls:{compose.CONTAINER_TLS_DIR}", *own.values()]
    for name, volume in own.items():
        seen = [volume for volume in PARTS[name]["volumes"] if volume.startswith("tls")]
        assert seen == [f"{volume}:ro"]
    assert not [name for name in (MIGRATE, *(server.name for server in SERVERS)) if "tls" in str(PARTS[name])]


def test_the_image_has_the_folders_of_the_certificates_so_that_their_volumes_are_its_users() -> None:
    made = re.findall(rf"{compose.CONTAINER_TLS_DIR}[/\w]*", (ROOT / "Dockerfile").read_text())
    folder = compose.CONTAINER_TLS_DIR
    assert sorted(made) == sorted([folder, *(f"{folder}/{name}" for name in BY_NAME)])


def test_images_are_pinned_and_ours_is_built_once_for_all() -> None:
    ours = {PARTS[name]["image"] for name in (*BY_NAME, MIGRATE, CERTIFICATES)}
    assert ours == {"ticketrush:local"}
    for server in SERVERS:
        assert re.fullmatch(r"\w+:\d+\.\d+(\.\d+)?-\w+", PARTS[server.name]["image"])
    for name in OBSERVERS:
        assert re.fullmatch(r"\w+/[\w-]+:v?\d+\.\d+\.\d+", PARTS[name]["image"])


def test_every_part_has_time_to_stop_and_keeps_its_data_in_a_volume() -> None:
    assert all("stop_grace_period" in part for part in PARTS.values())
    mounted = {volume.partition(":")[0] for part in PARTS.values() for volume in part.get("volumes", [])}
    kept = {volume for volume in mounted if not volume.startswith("./")}
    assert kept == COMPOSE["volumes"].keys()
    assert kept == {"postgres", "rabbitmq", "provider", "tls", "prometheus"} | {f"tls-{name}" for name in BY_NAME}


def test_the_example_of_env_names_every_variable_that_must_be_set() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert set(environment.read(ROOT / ".env.example")) == set(re.findall(r"\$\{(\w+):\?", text))
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(environment.PASSWORD_VARIABLES)


def test_the_image_holds_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = set(re.findall(r"^COPY (\w+) \w+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert copied == {cast("str", package).split("/")[0] for package in packages}


def test_one_part_builds_each_image_and_the_others_never_ask_a_registry_for_it() -> None:
    assert [name for name, part in PARTS.items() if "build" in part] == [MIGRATE, FRONTEND.name]
    assert {PARTS[name]["pull_policy"] for name in (*BY_NAME, FRONTEND.name, MIGRATE, CERTIFICATES)} == {"never"}


def test_rabbitmq_is_not_asked_before_it_has_its_cookie() -> None:
    kind, check = PARTS[RABBITMQ.name]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    assert check.startswith("test -s ~/.erlang.cookie && rabbitmq-diagnostics ")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH for a `docker` of the test; the passwords of the test stay in it too."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(compose, "_SECRETS", tmp_path / ".env")
    monkeypatch.setattr(compose, "_ISSUER", tmp_path / "issuer")
    return tmp_path


def plays(folder: Path, script: str) -> None:
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\ncd {folder}\n{script}")
    program.chmod(0o755)


def running() -> str:
    """`docker compose ps --format=json` of a stack that runs, each port published under its own number."""
    parts = {server.name: list(server.ports.values()) for server in SERVERS}
    parts |= {service.name: [service.port, service.metrics_port] for service in PROCESSES}
    return "\n".join(
        json.dumps(
            {
                "Service": name,
                "Health": "healthy",
                "Publishers": [{"TargetPort": port, "PublishedPort": port} for port in ports],
            }
        )
        for name, ports in parts.items()
    )


def test_up_waits_for_what_a_lost_database_made_unhealthy_and_goes_on(docker: Path) -> None:
    (docker / "running").write_text(running())
    (docker / "unhealthy").write_text(running().replace('"healthy"', '"unhealthy"', 1))
    # The first `up` gives up; by the third look at the containers all are healthy again.
    plays(
        docker,
        """case "$2" in
        up) echo up >>ups; [ "$(wc -l <ups)" -gt 1 ] ;;
        cp) echo "$3 $4" >copied ;;
        ps) echo ps >>looks; if [ "$(wc -l <looks)" -gt 2 ]; then cat running; else cat unhealthy; fi ;;
        esac""",
    )
    compose.up(docker, lambda _: None)
    assert (docker / "ups").read_text().split() == ["up", "up"]
    written = environment.read(docker / "stack.env")
    assert {service.address: f"{LOOPBACK}:{service.port}" for service in SERVICES}.items() <= written.items()
    # What people's tools show to the services.
    source = f"{CERTIFICATES}:{compose.CONTAINER_TLS_DIR}/{OPERATOR}"
    assert (docker / "copied").read_text() == f"{source} {docker / 'tls'}\n"
    assert written[TLS_DIR] == str(docker / "tls")


def test_up_fails_at_once_for_another_reason(docker: Path) -> None:
    (docker / "running").write_text(running())
    plays(docker, 'case "$2" in up) echo up >>ups; exit 1 ;; ps) cat running ;; esac')
    with pytest.raises(StackError, match="docker compose up failed"):
        compose.up(docker, lambda _: None)
    assert (docker / "ups").read_text().split() == ["up"]


@pytest.mark.parametrize("script", ["echo 'unknown flag: --detach' >&2; exit 125", ""], ids=["no plugin", "no docker"])
def test_up_says_what_it_needs(docker: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if script:
        plays(docker, script)
    else:
        monkeypatch.setenv("PATH", str(docker))
    with pytest.raises(StackError, match="needs Docker with its compose plugin"):
        compose.up(docker, lambda _: None)


def test_logs_are_those_of_compose_and_nothing_else(docker: Path) -> None:
    plays(docker, 'echo "$@"')
    command = [sys.executable, "-m", "deploy", "logs", "gateway"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"RUNTIME": "compose"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "compose logs --tail=50 gateway\n", "")
