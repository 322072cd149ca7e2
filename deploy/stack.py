"""The local stack: private processes under a run directory, started and stopped as a whole or by name."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

import grpc

from chassis import channels, healthcheck
from chassis.tls import Tls, UnusableCertificateError, channel_credentials
from deploy import certificates, environment, facts, frontend, migrate, postgres, rabbitmq
from deploy.broker import furnish
from deploy.environment import ADMINISTRATOR_PASSWORD, BROKER_PASSWORD
from deploy.errors import StackError
from deploy.facts import External
from deploy.issuer import OPERATOR_TOKEN, Issuer
from deploy.lock import locked
from deploy.ports import Ports, becomes_free
from deploy.postgres import Postgres
from deploy.process import Process, wait_until
from deploy.rabbitmq import RabbitMQ
from deploy.servers import bring_up
from deploy.services import (
    FRONTEND,
    LOOPBACK,
    MIGRATE,
    NAMES,
    OPERATOR,
    PROCESSES,
    SETTING_PREFIX,
    SHARDS_DEFAULT,
    Service,
    certificate_files,
    settings,
)

START_DEADLINE_S: Final = 60.0
# Services promise to end within 10 s.
STOP_DEADLINE_S: Final = 15.0
_ROOT: Final = Path(__file__).resolve().parent.parent
_BY_NAME: Final = MappingProxyType({service.name: service for service in PROCESSES})
# The process that holds each port.
_PORTS: Final = MappingProxyType(
    {"postgres": "postgres"}
    | {port: "epmd" if port == "epmd" else "rabbitmq" for port in rabbitmq.PORTS}
    | {port: name for name in _BY_NAME for port in (name, f"{name}_metrics")}
)
_STOPPING: Final = MappingProxyType(
    {
        "postgres": (postgres.STOP_SIGNAL, postgres.STOP_DEADLINE_S),
        "rabbitmq": (signal.SIGTERM, rabbitmq.STOP_DEADLINE_S),
    }
)
# A proxy that the environment names for the outside world knows no service of ours.
_DIRECT: Final = MappingProxyType({"no_grpc_proxy": LOOPBACK})
BACKUP_DIR: Final = "BACKUP_DIR"
GATEWAY_PORT_VARIABLE: Final = f"{SETTING_PREFIX}GATEWAY_PORT"
HTTP_PORT_VARIABLE: Final = f"{SETTING_PREFIX}HTTP_PORT"


def say_nothing(_: str) -> None:
    """For those who tell nobody."""


class Stack:
    """PostgreSQL, RabbitMQ and the services under one run directory; as a context manager it is down at the end.

    `settings` adds to or replaces the settings of services: name -> setting without prefix -> value; `variables` does
    so with the rest of their environment. The servers of `external` are used instead of starting our own. `shards` are
    those of each work queue. `gateway_port` and `http_port` 0 take free ones, `http_port_preferred` first; `ports` are
    all that somebody else has chosen, by name. What the private PostgreSQL writes is kept in `backup_dir`, or where it
    was the last time. `say` is told of each step.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        gateway_port: int = 0,
        http_port: int = 0,
        http_port_preferred: int | None = None,
        ports: Mapping[str, int] = MappingProxyType({}),
        settings: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        variables: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        external: External = External(),  # noqa: B008 # frozen
        backup_dir: Path | None = None,
        shards: int = SHARDS_DEFAULT,
        say: Callable[[str], None] = say_nothing,
    ) -> None:
        self.run_dir = run_dir.resolve()
        self._fixed_ports = {"gateway": gateway_port, FRONTEND.name: http_port, **ports}
        self._preferred_ports = {FRONTEND.name: http_port_preferred} if http_port_preferred else {}
        self._settings = settings
        self._variables = variables
        self._external = external
        self._backup_dir = backup_dir.resolve() if backup_dir else None
        self._shards = shards
        self._say = say
        self._processes = {name: Process(name, self.run_dir) for name in (*NAMES, "epmd")}
        self._secrets = self.run_dir / "secrets.env"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def env(self) -> dict[str, str]:
        """The lines of `stack.env`; empty before the first `up`."""
        return environment.read(self.run_dir / "stack.env")

    def address(self, name: str) -> str:
        """The address of a service: of its gRPC, or of the HTTP front."""
        return self.env[_BY_NAME[name].address]

    @property
    def tls(self) -> Tls:
        """With which people and their tools come to the services within. Raises UnusableCertificateError."""
        return Tls(*certificate_files(self.run_dir / "tls", OPERATOR))

    def channel(self, name: str, *options: tuple[str, int | str]) -> grpc.aio.Channel:
        """A channel to a service, to be made in the loop that uses it; `options` are gRPC's own."""
        direct = ("grpc.enable_http_proxy", 0)
        tls = None if _BY_NAME[name].is_public else self.tls
        return channels.dial(self.address(name), direct, *options, tls=tls, peer=name)

    def is_serving(self, name: str, timeout_s: float = healthcheck.TIMEOUT_S) -> bool:
        """Whether a service says SERVING; False too if it does not answer in time."""
        if _BY_NAME[name].is_http:
            return frontend.is_ready(self.address(name), timeout_s)
        credentials = None
        if not _BY_NAME[name].is_public:
            try:
                credentials = channel_credentials(self.tls.current())
            except UnusableCertificateError:
                return False
        return healthcheck.is_serving(self.address(name), timeout_s, credentials=credentials, peer=name)

    def database_url(self, name: str) -> str:
        """The URL with which a service connects to the database, as its own role."""
        return self.env[f"{name.upper()}_DATABASE_URL"]

    @property
    def issuer(self) -> Issuer:
        """Who signs the tokens that this stack's gateway accepts."""
        return Issuer(self.run_dir / "issuer")

    @property
    def operator_token(self) -> str:
        """A token that may do everything."""
        return self.env[OPERATOR_TOKEN]

    def twin(self, name: str, settings: Mapping[str, Mapping[str, str]]) -> "Stack":
        """Another stack for services beside these: on the same servers, with the same secrets, issuer and CA."""
        run_dir = self.run_dir / name
        run_dir.mkdir()
        environment.write(run_dir / "secrets.env", environment.passwords(self._secrets))
        # Whoever is let in by one gateway is let in by the other, and services know each other across both.
        shutil.copytree(self.issuer.folder, run_dir / "issuer")
        shutil.copytree(self.run_dir / "tls", run_dir / "tls")
        management = self.env["RABBITMQ_MANAGEMENT_URL"] if facts.has_own_users(self._external) else None
        servers = External(self.env["DATABASE_URL"], self.env["AMQP_URL"], management)
        return Stack(run_dir, settings=settings, external=servers, shards=self._shards)

    def pid(self, name: str) -> int | None:
        """The pid of a part, None if it does not run."""
        return self._processes[name].pid

    def log(self, name: str) -> Path:
        """The file to which a part writes."""
        return self._processes[name].log

    def kill(self, name: str) -> None:
        """kill -9, and waits until it is gone. `up` brings it back."""
        self._processes[name].kill()

    def up(self, names: Collection[str] = NAMES) -> None:
        """Starts those of the named parts that do not run, or run with other settings, and waits until all are ready.

        Migrates the database before the first service that needs it. Raises StackError.
        """
        with locked(self.run_dir, self._say):
            ports = self._choose_ports()
            passwords = environment.passwords(self._secrets)
            known = facts.gather(self.run_dir, ports, passwords, self._external, shards=self._shards)
            self.issuer.prepare()
            known |= self.issuer.facts(self.env) | self._backup_facts()
            for service in PROCESSES:
                if service.name in names and self.pid(service.name) is None:
                    self._check_port(service, known)
            certificates.prepare(self.run_dir / "tls", say=self._say)
            environment.write(self.run_dir / "stack.env", known)
            database, broker = self._servers(ports, passwords)
            servers = [server for server in (database, broker) if server.process.name in names]
            bring_up(servers, known, self.run_dir / "apt.log", stop=self._stop, say=self._say)
            if facts.has_own_users(self._external) and ("rabbitmq" in names or self._external.amqp_url):
                furnish(known["RABBITMQ_MANAGEMENT_URL"], known["AMQP_URL"], passwords, shards=self._shards)
            services = [service for service in PROCESSES if service.name in names]
            if any(MIGRATE in service.depends_on for service in services):
                self.migrate()
            started = {service.name for service in services if self._start(service, known)}
            self._wait_until_serving(services, started, known)
            if started and broker.process.pid is not None and not broker.wait_until_queues_are_on_disk():
                self._say("rabbitmq has not written all queues to disk yet; to kill it now could cost some of them")

    def migrate(self) -> None:
        """Makes roles and schemas and applies new migrations, into a PostgreSQL that is up. Raises StackError."""
        job = migrate.migrate(self.env["DATABASE_URL"], environment.passwords(self._secrets), self._say)
        # In a thread of its own, so that this may also be called where an event loop runs.
        with ThreadPoolExecutor(max_workers=1) as pool:
            pool.submit(asyncio.run, job).result()

    def back_up(self) -> Path:
        """Makes a whole copy of the private PostgreSQL, which must run. Raises StackError."""
        with locked(self.run_dir, self._say):
            return self._private_postgres().back_up()

    def restore(self, target: datetime | None) -> None:
        """Stops everything, and starts the private PostgreSQL alone, as it was at that instant. Raises StackError.

        None: as late as can be. What the broker holds is of a time that has never been: it starts empty the next time.
        Nothing is thrown away.
        """
        with locked(self.run_dir, self._say):
            self._private_postgres().check_restorable(target)
        self.down()
        with locked(self.run_dir, self._say):
            database, broker = self._servers(self._choose_ports(), environment.passwords(self._secrets))
            kept = database.restore(target)
            broker.forget()
            asyncio.run(migrate.skip_numbers(self.env["DATABASE_URL"]))
            # What begins with a recovery does not mind archive_timeout until its next checkpoint.
            self._stop("postgres")
            database.start()
            instant = target.isoformat() if target else "the last"
            self._say(f"the database is what it was at {instant}; what it had is in {kept}")

    def _private_postgres(self) -> Postgres:
        database, _ = self._servers(self._choose_ports(), environment.passwords(self._secrets))
        if self.env.get("DATABASE_URL") != database.url:
            raise StackError("the database at DATABASE_URL is not ours: docs/operations.md, Back-up and restore")
        return database

    def _servers(self, ports: Mapping[str, int], passwords: Mapping[str, str]) -> tuple[Postgres, RabbitMQ]:
        backup_dir = self._backup_facts().get(BACKUP_DIR)
        administrator = passwords[ADMINISTRATOR_PASSWORD]
        parts = self._processes
        return (
            Postgres(parts["postgres"], self.run_dir, ports, administrator, Path(backup_dir) if backup_dir else None),
            RabbitMQ(parts["rabbitmq"], parts["epmd"], self.run_dir / "rabbitmq", ports, passwords[BROKER_PASSWORD]),
        )

    def _backup_facts(self) -> dict[str, str]:
        """Where back-ups are, as long as anybody has ever said so: they must not end because somebody forgot to."""
        folder = str(self._backup_dir or "") or self.env.get(BACKUP_DIR, "")
        return {BACKUP_DIR: folder} if folder else {}

    def down(self, names: Collection[str] = NAMES) -> None:
        """Stops the named parts, those that depend on others first, and keeps their data."""
        with locked(self.run_dir, self._say):
            if not any(self.pid(name) for name in names):
                self._say("nothing runs")
            for name in reversed(NAMES):
                if name in names:
                    self._stop(name)
                if name == "rabbitmq" and name in names:
                    self._stop("epmd")

    def clean(self) -> None:
        """Stops everything and removes the run directory, and the data wherever it lies."""
        # A directory without this was not made by us.
        if (self.run_dir / "state").is_dir():
            with locked(self.run_dir, self._say):
                for name in (*reversed(_BY_NAME), "rabbitmq", "epmd", "postgres"):
                    # RabbitMQ's good order takes seconds, for data that is thrown away here.
                    self._stop(name, at_once=name == "rabbitmq")
            postgres.remove_data(self.run_dir / "postgres")
            shutil.rmtree(self.run_dir)

    def _choose_ports(self) -> dict[str, int]:
        fixed = {name: port for name, port in self._fixed_ports.items() if port}
        held = [port for port, owner in _PORTS.items() if self.pid(owner) is not None]
        wanted = [port for port in _PORTS if port not in fixed]
        return Ports(self.run_dir).settle(wanted, held, self._preferred_ports) | fixed

    def _start(self, service: Service, known: Mapping[str, str]) -> bool:
        """Starts a service that does not run, or runs with other settings than it should have now; whether it did."""
        process = self._processes[service.name]
        own = settings(service, known)
        own |= {SETTING_PREFIX + name: value for name, value in self._settings.get(service.name, {}).items()}
        own |= self._variables.get(service.name, {})
        fingerprint = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
        if process.pid is not None and process.fingerprint == fingerprint:
            self._say(f"{service.name} runs already (pid {process.pid})")
            return False
        if process.pid is not None:
            self._say(f"{service.name} runs with other settings; starting it again")
            self._stop(service.name)
        self._check_port(service, known)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTING_PREFIX)}
        command = [str(frontend.build(self._say))] if service.is_http else [sys.executable, "-m", service.name]
        process.start(command, inherited | _DIRECT | own, directory=_ROOT, fingerprint=fingerprint)
        return True

    def _check_port(self, service: Service, known: Mapping[str, str]) -> None:
        address = known[service.address]
        variable = HTTP_PORT_VARIABLE if service.is_http else GATEWAY_PORT_VARIABLE
        if not becomes_free(int(address.rpartition(":")[2])):
            raise StackError(
                f"{address}, on which {service.name} should listen, is taken by another program: stop that, "
                f"or choose another port, as in: {variable}=0 make up"
            )

    def _wait_until_serving(
        self, services: Collection[Service], started: Collection[str], known: Mapping[str, str]
    ) -> None:
        begin = time.monotonic()
        waiting = {service.name: known[service.address] for service in services}

        def all_serving() -> bool:
            for name, address in list(waiting.items()):
                if self.pid(name) is None:
                    raise StackError(self._failure(name, "ended while it started"))
                if self.is_serving(name):
                    del waiting[name]
                    if name in started:
                        seconds = time.monotonic() - begin
                        self._say(f"{name} is up on {address} (pid {self.pid(name)}, after {seconds:.1f} s)")
            return not waiting

        if not wait_until(all_serving, START_DEADLINE_S):
            names = ", ".join(waiting)
            raise StackError(
                self._failure(next(iter(waiting)), f"is not SERVING after {START_DEADLINE_S:.0f} s ({names})")
            )

    def _failure(self, name: str, what: str) -> str:
        process = self._processes[name]
        return f"{name} {what}. The end of {process.log}:\n{process.log_tail()}\nOnce that is mended: make up"

    def _stop(self, name: str, *, at_once: bool = False) -> None:
        process = self._processes[name]
        if process.pid is None:
            return
        signal_number, deadline_s = _STOPPING.get(name, (signal.SIGTERM, STOP_DEADLINE_S))
        if at_once:
            signal_number = signal.SIGKILL
        if process.stop(deadline_s, by=signal_number):
            self._say(f"{name} stopped")
        else:
            self._say(f"{name} did not stop within {deadline_s:.0f} s and was killed")
