"""Settings from `TICKETRUSH_*` environment variables, with one error that names everything wrong.

Any of them may be in a file instead, which `TICKETRUSH_*_FILE` names: a secret need not be in the environment. What may
hold a password is in no `repr`, no error and no log.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.addresses import host_and_port

PREFIX = "TICKETRUSH_"
EXIT_CODE_MISCONFIGURED = 2


def _amqp_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname:
        raise ValueError("must be amqp://USER:PASSWORD@HOST:PORT/ or amqps://...")  # pragma: allowlist secret
    try:
        _ = parts.port
    except ValueError:
        # Without what it says: of a password that was not quoted it would take a part for the port.
        raise ValueError("Port out of range, or no number") from None
    return value


def _database_url(value: str) -> str:
    try:
        conninfo_to_dict(value)
    except psycopg.ProgrammingError:
        # Without what it says: it quotes the value, password and all.
        raise ValueError("must be postgresql://HOST:PORT/DATABASE, with USER:PASSWORD@ before HOST") from None
    return value


def _log_level(value: str) -> str:
    if value.upper() not in logging.getLevelNamesMapping():
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
    return value.upper()


Address = Annotated[str, AfterValidator(host_and_port)]
"""`HOST:PORT`; port 0 lets the system choose."""
AmqpUrl = Annotated[str, AfterValidator(_amqp_url), Field(repr=False)]
"""Of a broker. A secret."""
DatabaseUrl = Annotated[str, AfterValidator(_database_url), Field(repr=False)]
"""Of a PostgreSQL, or its `key=value` connection string. A secret."""
LogLevel = Annotated[str, AfterValidator(_log_level)]
"""The name of a level of `logging`."""


class Settings(BaseSettings):
    """What every service needs. A service adds its own fields in its `__main__`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    listen_address: Address
    metrics_address: Address
    log_level: LogLevel = "INFO"

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Adds what is in files."""
        found = {name: file for name in cls.model_fields if (file := os.environ.get(f"{PREFIX}{name.upper()}_FILE"))}
        for name, file in found.items():
            if name in values:
                raise ValueError(f"{PREFIX}{name.upper()} and {PREFIX}{name.upper()}_FILE are both set: unset one")
            try:
                values[name] = Path(file).read_text().removesuffix("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"{PREFIX}{name.upper()}_FILE: cannot read {file}: {error}") from None
        return values


Chosen = TypeVar("Chosen", bound=Settings)


def load(kind: Callable[[], Chosen]) -> Chosen:
    """The settings of this process; exits with code 2 after naming every wrong or missing variable."""
    try:
        return kind()
    except ValidationError as error:
        _exit_naming(error)


def _exit_naming(error: ValidationError) -> NoReturn:
    lines = []
    for problem in error.errors():
        name = "_".join(str(part) for part in problem["loc"]).upper()
        told = "is missing" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
        # What is wrong with a file names its variable itself.
        lines.append(f"  {PREFIX}{name}: {told}" if name else f"  {told}")
    stop_misconfigured("settings are wrong:\n" + "\n".join(lines))


def stop_misconfigured(problem: str) -> NoReturn:
    """Ends the process: it cannot start as it is set up. Says what is wrong."""
    sys.stderr.write(f"Cannot start, {problem}\n")
    sys.exit(EXIT_CODE_MISCONFIGURED)
