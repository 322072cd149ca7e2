"""The same stack by Docker Compose (RUNTIME=compose), for those who have it."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from deploy import environment
from deploy.broker import user_url
from deploy.errors import StackError
from deploy.facts import RABBITMQ_METRICS_ADDRESS
from deploy.issuer import Issuer
from deploy.services import (
    ADMINISTRATOR,
    BROKER_ADMINISTRATOR,
    BROKER_USERS,
    CERTIFICATES,
    DATABASE,
    LOOPBACK,
    OPERATOR,
    POSTGRES,
    PROCESSES,
    RABBITMQ,
    ROLES,
    SETTING_PREFIX,
    TLS_DIR,
)

UP_DEADLINE_S: Final = 1_800.0
RECOVERY_DEADLINE_S: Final = 60.0
DOWN_DEADLINE_S: Final = 180.0
_ANSWER_DEADLINE_S: Final = 30.0
_POLL_S: Final = 1.0
_DOCKER_COMPOSE: Final = ("docker", "compose")
_UP: Final = ("up", "--detach", "--build", "--wait")
_ROOT: Final = Path(__file__).resolve().parent.parent
_SECRETS: Final = _ROOT / ".env"
_ISSUER: Final = _ROOT / ".run" / "issuer"
_SECRET_BYTES: Final = 24
_FRONTEND_TOKEN: Final = f"{SETTING_PREFIX}FRONTEND_TOKEN"
CONTAINER_TLS_DIR: Final = "/var/lib/ticketrush-tls"
_NEEDED: Final = "RUNTIME=compose needs Docker with its compose plugin; install it, or unset RUNTIME"


def up(run_dir: Path, say: Callable[[str], None]) -> None:
    """Builds the image, starts what does not run, waits until all is healthy and writes `stack.env`."""
    _check_plugin()
    passwords = _passwords()
    # The gateway's container reads the public part of it, from where the compose file mounts it.
    issuer = Issuer(_ISSUER)
    issuer.prepare()
    _give_token(issuer)
    say("docker compose up: the first time builds the image and pulls the others")
    _up_all(say)
    folder = run_dir / "tls"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _compose(["cp", f"{CERTIFICATES}:{CONTAINER_TLS_DIR}/{OPERATOR}", str(folder.resolve())], _ANSWER_DEADLINE_S)
    before = environment.read(run_dir / "stack.env")
    found = _facts(passwords) | {TLS_DIR: str(folder.resolve())} | issuer.facts(before)
    environment.write(run_dir / "stack.env", found)


def down(say: Callable[[str], None]) -> None:
    """Stops and removes the containers; the volumes stay."""
    _compose(["down"], DOWN_DEADLINE_S)
    say("containers stopped")


def clean(say: Callable[[str], None]) -> None:
    """Removes containers and volumes."""
    _compose(["down", "--volumes"], DOWN_DEADLINE_S)
    say("containers and volumes removed")


def logs(names: Sequence[str], *, follow: bool, lines: int) -> NoReturn:
    """Becomes the program that prints the ends of the logs, and follows them until Ctrl-C if wanted."""
    os.chdir(_ROOT)
    try:
        os.execvp("docker", [*_DOCKER_COMPOSE, "logs", f"--tail={lines}", *(["--follow"] if follow else []), *names])
    except FileNotFoundError as error:
        raise StackError(_NEEDED) from error


def _check_plugin() -> None:
    """Raises StackError without the plugin: `docker compose up` would then complain about its options."""
    try:
        _compose(["version"], _ANSWER_DEADLINE_S, capture=True)
    except StackError as error:
        raise StackError(_NEEDED) from error


def _up_all(say: Callable[[str], None]) -> None:
    """Compose gives up at once on an unhealthy container; a service is one for a while after its database was away."""
    try:
        _compose(_UP, UP_DEADLINE_S)
    except StackError:
        if not _recovered(say):
            raise
        _compose(_UP, UP_DEADLINE_S)


def _recovered(say: Callable[[str], None]) -> bool:
    """Whether containers were unhealthy and all of them are healthy again before the deadline."""
    unhealthy = _unhealthy()
    if not unhealthy:
        return False
    say("waiting until these are healthy again: " + ", ".join(unhealthy))
    deadline_s = time.monotonic() + RECOVERY_DEADLINE_S
    while _unhealthy():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def _passwords() -> dict[str, str]:
    """The passwords in `.env`; draws those that are missing, and keeps whatever else is in the file."""
    known = environment.read(_SECRETS)
    missing = [name for name in environment.PASSWORD_VARIABLES if not known.get(name)]
    complete = known | {name: secrets.token_urlsafe(_SECRET_BYTES) for name in missing}
    if complete != known:
        environment.write(_SECRETS, complete)
    return complete


def _give_token(issuer: Issuer) -> None:
    """Puts the token of the HTTP front where Compose finds it: a container's account may read no file of ours."""
    known = environment.read(_SECRETS)
    lasting = issuer.frontend_token(known.get(_FRONTEND_TOKEN, ""))
    if lasting != known.get(_FRONTEND_TOKEN):
        environment.write(_SECRETS, known | {_FRONTEND_TOKEN: lasting})


def _facts(passwords: dict[str, str]) -> dict[str, str]:
    """What `.run/stack.env` says, with the ports that Compose published."""
    ports = _published()
    facts: dict[str, str] = {}
    for service in PROCESSES:
        facts[service.address] = ports[service.name, service.port]
        facts[service.metrics_address] = ports[service.name, service.metrics_port]
    database = f"{ports[POSTGRES.name, POSTGRES.ports['postgres']]}/{DATABASE}"
    facts["DATABASE_URL"] = f"postgresql://{ADMINISTRATOR}:{passwords[environment.ADMINISTRATOR_PASSWORD]}@{database}"
    broker = ports[RABBITMQ.name, RABBITMQ.ports["rabbitmq"]]
    facts["AMQP_URL"] = f"amqp://{BROKER_ADMINISTRATOR}:{passwords[environment.BROKER_PASSWORD]}@{broker}/"
    facts["RABBITMQ_MANAGEMENT_URL"] = "http://" + ports[RABBITMQ.name, RABBITMQ.ports["rabbitmq_management"]]
    facts[RABBITMQ_METRICS_ADDRESS] = ports[RABBITMQ.name, RABBITMQ.ports["rabbitmq_metrics"]]
    for user in BROKER_USERS:
        facts[user.amqp_url] = user_url(facts["AMQP_URL"], user, passwords[user.password_variable])
    for role in ROLES:
        password = passwords[role.password_variable]
        facts[role.database_url] = environment.role_url(facts["DATABASE_URL"], role, password)
    return facts


def _published() -> dict[tuple[str, int], str]:
    """By container and its port: the address under which it can be reached."""
    return {
        (container["Service"], port["TargetPort"]): f"{LOOPBACK}:{port['PublishedPort']}"
        for container in _containers()
        for port in container["Publishers"] or ()
    }


def _unhealthy() -> list[str]:
    return [container["Service"] for container in _containers() if container["Health"] == "unhealthy"]


def _containers() -> list[dict[str, Any]]:
    """What runs, in Compose's words: an object a line."""
    lines = _compose(["ps", "--format=json"], _ANSWER_DEADLINE_S, capture=True).splitlines()
    return [json.loads(line) for line in lines]


def _compose(arguments: Sequence[str], deadline_s: float, *, capture: bool = False) -> str:
    try:
        done = subprocess.run(
            [*_DOCKER_COMPOSE, *arguments],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
            text=True,
            check=True,
            timeout=deadline_s,
        )
    except FileNotFoundError as error:
        raise StackError(_NEEDED) from error
    except subprocess.CalledProcessError as error:
        raise StackError(f"docker compose {arguments[0]} failed; see above, and: docker compose logs") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"docker compose {arguments[0]} did not end within {deadline_s:.0f} s") from error
    return done.stdout or ""
