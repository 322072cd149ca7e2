"""Settings from `TICKETRUSH_*` environment variables, with one error that names everything wrong."""

import logging
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.addresses import host_and_port, is_loopback

PREFIX = "TICKETRUSH_"
EXIT_CODE_MISCONFIGURED = 2


def _amqp_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname:
        raise ValueError("must be amqp://USER:PASSWORD@HOST:PORT/ or amqps://...")
    _ = parts.port  # a ValueError of its own says what is wrong
    return value


def _database_url(value: str) -> str:
    try:
        conninfo_to_dict(value)
    except psycopg.ProgrammingError as error:
        raise ValueError(f"must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE ({str(error).strip()})") from error
    return value


def _log_level(value: str) -> str:
    if value.upper() not in logging.getLevelNamesMapping():
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
    return value.upper()


Address = Annotated[str, AfterValidator(host_and_port)]
"""`HOST:PORT`; port 0 lets the system choose."""
AmqpUrl = Annotated[str, AfterValidator(_amqp_url)]
"""Of a broker."""
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
"""Of a PostgreSQL, or its `key=value` connection string."""
LogLevel = Annotated[str, AfterValidator(_log_level)]
"""The name of a level of `logging`."""


def is_for_this_machine(address: str) -> bool:
    """Whether only this machine can reach who listens on HOST:PORT."""
    return is_loopback(address.rpartition(":")[0])


class Settings(BaseSettings):
    """What every service needs. A service adds its own fields in its `__main__`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    listen_address: Address
    metrics_address: Address
    log_level: LogLevel = "INFO"


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
        # What is wrong between several variables names them itself.
        lines.append(f"  {PREFIX}{name}: {told}" if name else f"  {told}")
    stop_misconfigured("settings are wrong:\n" + "\n".join(lines))


def stop_misconfigured(problem: str) -> NoReturn:
    """Ends the process: it cannot start as it is set up. Says what is wrong."""
    sys.stderr.write(f"Cannot start, {problem}\n")
    sys.exit(EXIT_CODE_MISCONFIGURED)
