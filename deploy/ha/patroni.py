"""The two databases: each a PostgreSQL that its Patroni starts, watches, promotes and brings back as a standby."""

import importlib.util
import json
import os
import shutil
import signal
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from deploy import postgres
from deploy.environment import ADMINISTRATOR_PASSWORD
from deploy.errors import StackError
from deploy.ha.etcd import tls_folder
from deploy.ha.table import DATABASES, ETCDS
from deploy.process import Process, wait_until, write_atomically
from deploy.services import ADMINISTRATOR, LOOPBACK, SETTING_PREFIX, certificate_files

# Patroni itself is the one among our packages. That of Debian 12, 3.0.2, lets a primary that was frozen for longer than
# its lock lasts take the lock back from the other (mended in 3.0.3, patroni/patroni#2689). It runs on Debian's Python,
# with the libraries that Debian's package brings: PostgreSQL's account may read those, but perhaps not this checkout.
PYTHON: Final = "/usr/bin/python3"
DEBIANS: Final = "/usr/bin/patroni"
# What that package does not bring: the server, and what its client of etcd wants to check a certificate.
NEEDS: Final = (postgres.Postgres.package, "python3-idna")
_TLS_NEEDS: Final = Path("/usr/lib/python3/dist-packages/idna")
START_DEADLINE_S: Final = 120.0
STOP_DEADLINE_S: Final = 40.0
PAGE_TIMEOUT_S: Final = 5.0
_BACKENDS_DEADLINE_S: Final = 10.0
SCOPE: Final = "ticketrush"
REPLICATOR: Final = "replicator"
REPLICATOR_PASSWORD: Final = f"{SETTING_PREFIX}REPLICATOR_PASSWORD"
PAGE_PASSWORD: Final = f"{SETTING_PREFIX}PATRONI_PASSWORD"
_IDENTITY: Final = "patroni"
# Later versions say of a standby that it is streaming.
_RUNNING: Final = frozenset({"running", "streaming"})

# The lock of the primary, in seconds. A primary whose machine dies is replaced once its lock runs out (TTL_S) and the
# other has won it: that is most of the time that P15 promises. Patroni wants LOOP_WAIT_S + 2 x RETRY_S <= TTL_S; etcd
# finds a new leader in less than RETRY_S, so that its change of leaders is none of the primary.
TTL_S: Final = 20
LOOP_WAIT_S: Final = 2
RETRY_S: Final = 8
SETTINGS: Final[Mapping[str, Any]] = {
    "ttl": TTL_S,
    "loop_wait": LOOP_WAIT_S,
    "retry_timeout": RETRY_S,
    # Who may take over has confirmed every commit, so what it lacks was told to nobody: the bound is a wide one.
    "maximum_lag_on_failover": 128 * 1024 * 1024,
    "synchronous_mode": True,
    # With no standby left the primary goes on alone, and from then on nobody else may take over until there is one
    # again that has it all. Strict, the death of the standby would stop the sale.
    "synchronous_mode_strict": False,
    # A PostgreSQL that crashed under a living Patroni hands over at once instead of going through its recovery first.
    "primary_start_timeout": 0,
    # Without etcd nobody takes over, and for that reason the primary, while it reaches the other, may stay.
    "failsafe_mode": True,
    "postgresql": {
        "use_pg_rewind": True,
        "use_slots": True,
        "parameters": {
            "max_connections": postgres.MAX_CONNECTIONS,
            "log_timezone": "UTC",
            "timezone": "UTC",
            "wal_keep_size": "128MB",
        },
    },
}


def render(name: str, home: Path, programs: Path, ports: Mapping[str, int], secrets: Mapping[str, str]) -> str:
    """The configuration of one, with its files under `home`. `secrets`: the superuser's, replicator's, page's."""
    cert, key, ca = map(str, certificate_files(home / "tls", _IDENTITY))
    page = f"{LOOPBACK}:{ports[f'{name}_patroni']}"
    superuser = {"username": ADMINISTRATOR, "password": secrets[ADMINISTRATOR_PASSWORD]}
    replicator = {"username": REPLICATOR, "password": secrets[REPLICATOR_PASSWORD]}
    login = {"username": _IDENTITY, "password": secrets[PAGE_PASSWORD]}
    document = {
        "scope": SCOPE,
        "name": name,
        "restapi": {"listen": page, "connect_address": page, "authentication": login},
        # Asked about each other, on this machine.
        "ctl": {"authentication": login},
        "etcd3": {
            "hosts": [f"{LOOPBACK}:{ports[etcd]}" for etcd in ETCDS],
            "protocol": "https",
            "cacert": ca,
            "cert": cert,
            "key": key,
        },
        "bootstrap": {
            "dcs": dict(SETTINGS),
            "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, {"auth": "scram-sha-256"}, "data-checksums"],
        },
        "postgresql": {
            "listen": f"{LOOPBACK}:{ports[name]}",
            "connect_address": f"{LOOPBACK}:{ports[name]}",
            "data_dir": str(home / "data"),
            "bin_dir": str(programs),
            "pgpass": str(home / "pgpass"),
            # Who cannot be rewound is copied anew: whatever only it has was confirmed to nobody.
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
            "authentication": {"superuser": superuser, "replication": replicator},
            "pg_hba": [
                f"host all all {LOOPBACK}/32 scram-sha-256",
                f"host replication {REPLICATOR} {LOOPBACK}/32 scram-sha-256",
            ],
            # A path to a Unix socket may hold only 107 bytes; the run directory's may be longer.
            "parameters": {"unix_socket_directories": ""},
        },
    }
    # JSON is YAML.
    return json.dumps(document, indent=1)


class Patroni:
    """One of the two, see `deploy.servers.Server`. Its process is Patroni; PostgreSQL outlives that."""

    package = "patroni"

    def __init__(self, process: Process, run_dir: Path, ports: Mapping[str, int], secrets: Mapping[str, str]) -> None:
        self.process = process
        self.fact = process.name
        self._run_dir = run_dir
        self._ports = ports
        self._secrets = secrets

    @property
    def url(self) -> str:
        """Of this very PostgreSQL, whatever it is now."""
        return postgres.url(self._ports[self.process.name], self._secrets[ADMINISTRATOR_PASSWORD], "postgres")

    @property
    def page(self) -> str:
        return f"http://{LOOPBACK}:{self._ports[f'{self.process.name}_patroni']}"

    def is_installed(self) -> bool:
        return Path(DEBIANS).exists() and _TLS_NEEDS.exists() and postgres.find_binaries(None) is not None

    def check(self, url: str) -> None:
        postgres.check(url)

    def start(self) -> None:
        process = self.process
        home = postgres.own_home(self._run_dir / process.name)
        self._write(home)
        command, variables = program(home)
        process.start(
            [*command, str(home / "patroni.yml")],
            {**postgres.ENVIRONMENT, **variables},
            directory=Path("/"),
            account=postgres.server_account(),
        )
        wait_until(lambda: process.pid is None or self._answers(), START_DEADLINE_S)
        if process.pid is None or not self._answers():
            raise StackError(f"{process.name} does not come up; the end of {process.log}:\n{process.log_tail()}")

    def _write(self, home: Path) -> None:
        """Its files, for PostgreSQL's account alone."""
        own = certificate_files(home / "tls", _IDENTITY)
        for theirs, file in zip(certificate_files(tls_folder(self._run_dir), _IDENTITY), own, strict=True):
            write_atomically(file, theirs.read_text())
        file = home / "patroni.yml"
        programs = postgres.binaries(home / "data")
        text = render(self.process.name, home, programs, self._ports, self._secrets)
        write_atomically(file, text)
        for path in (home / "tls", own[0].parent, *own, file):
            postgres.hand_over(path)

    def _answers(self) -> bool:
        try:
            self.check(self.url)
        except StackError:
            return False
        return True

    def members(self) -> list[dict[str, Any]]:
        """Who there is, in Patroni's words: name, role, state. Raises OSError."""
        found: list[dict[str, Any]] = json.loads(self._ask("GET", "/cluster"))["members"]
        return found

    def agree(self) -> None:
        """Makes the settings those of this code, also in a cluster that was begun with others. Raises OSError."""
        self._ask("PATCH", "/config", json.dumps(SETTINGS).encode())

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        login = b64encode(f"{_IDENTITY}:{self._secrets[PAGE_PASSWORD]}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 # its own page
            self.page + path, data=body, method=method, headers={"Authorization": f"Basic {login}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PAGE_TIMEOUT_S) as answer:
            told: bytes = answer.read()
            return told


def program(home: Path) -> tuple[list[str], dict[str, str]]:
    """How to run Patroni: the command, and its environment. Puts a copy for PostgreSQL's account under `home`."""
    found = importlib.util.find_spec("patroni")
    if found is None or found.origin is None:
        raise StackError("Patroni is not among the packages of this Python; install them with: make venv")
    own = home / "program"
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(Path(found.origin).parent, own / "patroni", ignore=shutil.ignore_patterns("__pycache__"))
    if account := postgres.server_account():
        for path in (own, *own.rglob("*")):
            shutil.chown(path, account, account)
    return [PYTHON, "-m", "patroni"], {"PYTHONPATH": str(own)}


def roles(databases: Mapping[str, Patroni]) -> dict[str, str]:
    """The role of each that runs: `leader`, `sync_standby`, `replica`; by any of them that answers."""
    for database in databases.values():
        try:
            return {member["name"]: member["role"] for member in database.members() if member["state"] in _RUNNING}
        except OSError:
            continue
    return {}


def postmaster(run_dir: Path, name: str) -> int | None:
    """The pid of the PostgreSQL of one; None if there is none."""
    data = (run_dir / name / "data").resolve()
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        # A file that outlived its server may name a stranger.
        return pid if Path(f"/proc/{pid}/cwd").readlink() == data else None
    except (OSError, ValueError):
        return None


def kill(run_dir: Path, name: str) -> None:
    """kill -9 of the PostgreSQL of one."""
    _send(run_dir, name, signal.SIGKILL)


def stop(run_dir: Path, name: str) -> None:
    """Ends the PostgreSQL of one whose Patroni is gone; one that does not end in time is killed."""
    _send(run_dir, name, postgres.STOP_SIGNAL)
    if not wait_until(lambda: postmaster(run_dir, name) is None, postgres.STOP_DEADLINE_S):
        kill(run_dir, name)


def _send(run_dir: Path, name: str, number: signal.Signals) -> None:
    pid = postmaster(run_dir, name)
    if pid is not None:
        os.kill(pid, number)


def remove_data(run_dir: Path) -> None:
    """Removes the data of both, wherever they lie, once the last backend of a killed server has ended."""
    for name in DATABASES:
        wait_until(partial(_is_left, (run_dir / name / "data").resolve()), _BACKENDS_DEADLINE_S)
        postgres.remove_data(run_dir / name)


def _is_left(data: Path) -> bool:
    return not postgres.at_work_in(data)
