"""The same stack by Docker Compose (RUNTIME=compose), for those who have it."""

import secrets
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from deploy import environment
from deploy.errors import StackError
from deploy.services import ADMINISTRATOR, DATABASE, POSTGRES, RABBITMQ, ROLES, SERVICES

UP_DEADLINE_S: Final = 1_800.0
DOWN_DEADLINE_S: Final = 180.0
_PORT_DEADLINE_S: Final = 30.0
_ROOT: Final = Path(__file__).resolve().parent.parent
_SECRETS: Final = _ROOT / ".env"
BROKER_USER: Final = "ticketrush"
BROKER_PASSWORD: Final = "TICKETRUSH_RABBITMQ_PASSWORD"  # noqa: S105 # the name of the variable, not its value
_SECRET_BYTES: Final = 24


def up(run_dir: Path, say: Callable[[str], None]) -> None:
    """Builds the image, starts what does not run, waits until all is healthy and writes `stack.env`."""
    passwords = _passwords()
    say("docker compose up: the first time builds the image and pulls two others")
    _compose(["up", "--detach", "--build", "--wait"], UP_DEADLINE_S)
    environment.write(run_dir / "stack.env", _facts(passwords))


def down(say: Callable[[str], None]) -> None:
    """Stops and removes the containers; the volumes stay."""
    _compose(["down"], DOWN_DEADLINE_S)
    say("containers stopped")


def clean(say: Callable[[str], None]) -> None:
    """Removes containers and volumes."""
    _compose(["down", "--volumes"], DOWN_DEADLINE_S)
    say("containers and volumes removed")


def logs(names: Sequence[str], *, follow: bool, lines: int) -> None:
    """Prints the ends of the logs; follows them until Ctrl-C if wanted."""
    _compose(["logs", f"--tail={lines}", *(["--follow"] if follow else []), *names], None)


def _passwords() -> dict[str, str]:
    """The passwords in `.env`; draws those that are missing, and keeps whatever else is in the file."""
    known = environment.read(_SECRETS)
    wanted = [*environment.PASSWORD_VARIABLES, BROKER_PASSWORD]
    complete = known | {name: known.get(name) or secrets.token_urlsafe(_SECRET_BYTES) for name in wanted}
    if complete != known:
        environment.write(_SECRETS, complete)
    return complete


def _facts(passwords: dict[str, str]) -> dict[str, str]:
    """What `.run/stack.env` says, with the ports that Compose published."""
    facts: dict[str, str] = {}
    for service in SERVICES:
        facts[service.address] = _published(service.name, service.port)
        facts[service.metrics_address] = _published(service.name, service.metrics_port)
    database = f"{_published(POSTGRES.name, POSTGRES.ports['postgres'])}/{DATABASE}"
    facts["DATABASE_URL"] = f"postgresql://{ADMINISTRATOR}:{passwords[environment.ADMINISTRATOR_PASSWORD]}@{database}"
    broker = _published(RABBITMQ.name, RABBITMQ.ports["rabbitmq"])
    facts["AMQP_URL"] = f"amqp://{BROKER_USER}:{passwords[BROKER_PASSWORD]}@{broker}/"
    facts["RABBITMQ_MANAGEMENT_URL"] = "http://" + _published(RABBITMQ.name, RABBITMQ.ports["rabbitmq_management"])
    for role in ROLES:
        password = passwords[role.password_variable]
        facts[role.database_url] = environment.role_url(facts["DATABASE_URL"], role, password)
    return facts


def _published(name: str, port: int) -> str:
    """The loopback address under which a container's port can be reached."""
    return _compose(["port", name, str(port)], _PORT_DEADLINE_S, capture=True).strip()


def _compose(arguments: Sequence[str], deadline_s: float | None, *, capture: bool = False) -> str:
    try:
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
            text=True,
            check=True,
            timeout=deadline_s,
        )
    except FileNotFoundError as error:
        raise StackError(
            "RUNTIME=compose needs Docker with its compose plugin; install it, or unset RUNTIME"
        ) from error
    except subprocess.CalledProcessError as error:
        raise StackError(f"docker compose {arguments[0]} failed; see above, and: docker compose logs") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"docker compose {arguments[0]} did not end within {deadline_s:.0f} s") from error
    return done.stdout or ""
