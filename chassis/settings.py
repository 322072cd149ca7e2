"""Settings from `TICKETRUSH_*` environment variables, with one error that names everything wrong.

Any of them may be in a file instead, which `TICKETRUSH_*_FILE` names: a secret need not be in the environment. What may
hold a password is in no `repr`, no error and no log.
"""

import logging
import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.addresses import host_and_port, is_loopback
from chassis.tls import Tls, UnusableCertificateError
from chassis.topology import SHARDS_MAX

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
    # What the library makes of amqps:// is said by the URL's query, all but the switch that turns it into nothing.
    given = dict(parse_qsl(parts.query))
    if given.get("no_verify_ssl", "0") != "0":
        raise ValueError("must not have no_verify_ssl: name the CA of the broker with cafile=PATH instead")
    if (file := given.get("cafile")) is not None and not Path(file).is_file():
        raise ValueError(f"has cafile={file}, which is no file")
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
"""Of a broker; that of `amqps://` is known by the CA in `?cafile=PATH`, else by those of the system. A secret."""
DatabaseUrl = Annotated[str, AfterValidator(_database_url), Field(repr=False)]
"""Of a PostgreSQL, or its `key=value` connection string; `sslmode=verify-full&sslrootcert=PATH` is TLS. A secret."""
LogLevel = Annotated[str, AfterValidator(_log_level)]
"""The name of a level of `logging`."""
Shards = Annotated[int, Field(ge=1, le=SHARDS_MAX)]
"""How many queues there are of each work queue, each with one active consumer at a time. The same for all services."""
File = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""Its path; an empty one stands for none."""


def _endpoint(value: str) -> str:
    parts = urlsplit(value)
    if value and not (parts.scheme in {"http", "https"} and parts.hostname):
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT of an OTLP receiver by gRPC, or empty")
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint)]
"""URL of an OTLP receiver by gRPC; an empty one stands for none."""
Ratio = Annotated[float, Field(ge=0, le=1)]


def is_for_this_machine(address: str) -> bool:
    """Whether only this machine can reach who listens on HOST:PORT."""
    return is_loopback(address.rpartition(":")[0])


class Settings(BaseSettings):
    """What every service needs. A service adds its own fields in its `__main__`.

    `tls_cert`, `tls_key` and `tls_ca` are PEM files: who we are to other services, and the CA by which we know them.
    All three or none; none only where nothing leaves this machine. At `health_address`, where it is set, health can be
    asked for without a certificate, and nothing else. `trace_ratio` of all traces are sent to `otlp_endpoint`, where
    it is set.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)
    # Of those that are reached, or reach others, by links between services.
    _not_within: ClassVar[frozenset[str]] = frozenset({"metrics_address", "health_address"})

    listen_address: Address
    metrics_address: Address
    health_address: Address | None = None
    log_level: LogLevel = "INFO"
    otlp_endpoint: Endpoint = ""
    trace_ratio: Ratio = 0.01
    tls_cert: File = None
    tls_key: File = None
    tls_ca: File = None

    @cached_property
    def tls(self) -> Tls | None:
        """Our identity among the services; None without one. Raises UnusableCertificateError."""
        if self.tls_cert is None or self.tls_key is None or self.tls_ca is None:
            return None
        return Tls(self.tls_cert, self.tls_key, self.tls_ca)

    @property
    def port_tls(self) -> Tls | None:
        """What callers of our port are shown, and whether they must show something too; None for plaintext."""
        return self.tls

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

    @model_validator(mode="after")
    def _links_are_private(self) -> Self:
        _check_together(self, "tls_cert", "tls_key", "tls_ca")
        try:
            tls = self.tls
        except UnusableCertificateError as error:
            raise ValueError(f"{PREFIX}TLS_CERT, _KEY, _CA: {error}") from error
        names = [name for name in type(self).model_fields if name.endswith("_address")]
        outside = [
            f"{PREFIX}{name.upper()} {getattr(self, name)}"
            for name in names
            if name not in self._not_within and not is_for_this_machine(getattr(self, name))
        ]
        if outside and tls is None:
            raise ValueError(
                f"links between services leave this machine ({', '.join(outside)}) and would be open to all: set "
                f"{PREFIX}TLS_CERT, {PREFIX}TLS_KEY and {PREFIX}TLS_CA, or use 127.0.0.1"
            )
        return self


class PublicSettings(Settings):
    """Of a service whose port is for everybody: callers show no certificate, and are shown `public_tls_cert`.

    `public_plaintext` leaves that port open to be read and changed on the way by anybody in between: for where
    something else keeps them out.
    """

    _not_within: ClassVar[frozenset[str]] = frozenset({"metrics_address", "health_address", "listen_address"})

    public_tls_cert: File = None
    public_tls_key: File = None
    public_plaintext: bool = False

    @cached_property
    def port_tls(self) -> Tls | None:
        if self.public_tls_cert is None or self.public_tls_key is None:
            return None
        return Tls(self.public_tls_cert, self.public_tls_key)

    @model_validator(mode="after")
    def _port_is_private(self) -> Self:
        _check_together(self, "public_tls_cert", "public_tls_key")
        try:
            tls = self.port_tls
        except UnusableCertificateError as error:
            raise ValueError(f"{PREFIX}PUBLIC_TLS_CERT, _KEY: {error}") from error
        if not (tls or self.public_plaintext or is_for_this_machine(self.listen_address)):
            raise ValueError(
                f"{PREFIX}LISTEN_ADDRESS {self.listen_address} can be reached from elsewhere, in plaintext: set "
                f"{PREFIX}PUBLIC_TLS_CERT and {PREFIX}PUBLIC_TLS_KEY, or listen on 127.0.0.1; "
                f"{PREFIX}PUBLIC_PLAINTEXT=yes is for where something in front of it does TLS"
            )
        return self


def _check_together(chosen: Settings, *names: str) -> None:
    missing = [PREFIX + name.upper() for name in names if getattr(chosen, name) is None]
    if missing and len(missing) < len(names):
        raise ValueError(f"{', '.join(missing)} must be set too: of {'/'.join(names).upper()} all or none")


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
        # What is wrong between several variables, or with a file, names them itself.
        lines.append(f"  {PREFIX}{name}: {told}" if name else f"  {told}")
    stop_misconfigured("settings are wrong:\n" + "\n".join(lines))


def stop_misconfigured(problem: str) -> NoReturn:
    """Ends the process: it cannot start as it is set up. Says what is wrong."""
    sys.stderr.write(f"Cannot start, {problem}\n")
    sys.exit(EXIT_CODE_MISCONFIGURED)
