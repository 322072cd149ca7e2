"""Settings from `TICKETRUSH_*` environment variables, with one error that names everything wrong."""

import sys
from collections.abc import Callable
from typing import Annotated, NoReturn, TypeVar

from pydantic import AfterValidator, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "TICKETRUSH_"
EXIT_CODE_MISCONFIGURED = 2


def _host_and_port(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not (host and separator and port.isdigit() and int(port) <= 65_535):
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:50051")
    return value


Address = Annotated[str, AfterValidator(_host_and_port)]
"""`HOST:PORT`; port 0 lets the system choose."""


class Settings(BaseSettings):
    """What every service needs. A service adds its own fields in its `__main__`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    listen_address: Address
    metrics_address: Address
    log_level: str = "INFO"


Chosen = TypeVar("Chosen", bound=Settings)


def load(kind: Callable[[], Chosen]) -> Chosen:
    """The settings of this process; exits with code 2 after naming every wrong or missing variable."""
    try:
        return kind()
    except ValidationError as error:
        _exit_naming(error)


def _exit_naming(error: ValidationError) -> NoReturn:
    lines = [
        f"  {PREFIX}{'_'.join(str(part) for part in problem['loc']).upper()}: "
        + ("is missing" if problem["type"] == "missing" else problem["msg"])
        for problem in error.errors()
    ]
    sys.stderr.write("Cannot start, settings are wrong:\n" + "\n".join(lines) + "\n")
    sys.exit(EXIT_CODE_MISCONFIGURED)
