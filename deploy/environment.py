"""Files of KEY=value lines under the run directory: `stack.env`, where everything is, and `secrets.env`."""

import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from dotenv import dotenv_values
from psycopg import ProgrammingError
from psycopg.conninfo import make_conninfo

from deploy.errors import StackError
from deploy.process import write_atomically
from deploy.services import BROKER_USERS, ROLES, SETTING_PREFIX, Role

ADMINISTRATOR_PASSWORD: Final = f"{SETTING_PREFIX}POSTGRES_PASSWORD"
BROKER_PASSWORD: Final = f"{SETTING_PREFIX}RABBITMQ_PASSWORD"
PASSWORD_VARIABLES: Final = (
    ADMINISTRATOR_PASSWORD,
    BROKER_PASSWORD,
    *(role.password_variable for role in ROLES),
    *(user.password_variable for user in BROKER_USERS),
)
_SECRET_BYTES: Final = 24


def read(path: Path) -> dict[str, str]:
    """The lines of a file; none if there is no file."""
    return {key: value for key, value in dotenv_values(path, interpolate=False).items() if value is not None}


def write(path: Path, values: Mapping[str, str]) -> None:
    """Writes lines that a shell can source. Only the owner may read them: URLs hold passwords."""
    write_atomically(path, "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items()))


def passwords(path: Path, variables: Sequence[str] = PASSWORD_VARIABLES) -> dict[str, str]:
    """The passwords of database and broker by variable; drawn on first use, then kept in the file with no others."""
    known = read(path)
    wanted = {name: known.get(name) or secrets.token_urlsafe(_SECRET_BYTES) for name in variables}
    if wanted != known:
        write(path, wanted)
    return wanted


def role_url(admin_url: str, role: Role, password: str) -> str:
    """Where the administrator connects, but as this role. Takes and gives a URL or a `key=value` connection string.

    Raises StackError for anything else.
    """
    if "://" not in admin_url:
        try:
            return make_conninfo(admin_url, user=role.name, password=password)
        except ProgrammingError as error:
            raise StackError(f"no PostgreSQL can be used at DATABASE_URL: {error}") from error
    parts = urlsplit(admin_url)
    hosts = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{role.name}:{quote(password, safe='')}@{hosts}").geturl()
