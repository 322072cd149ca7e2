"""What a process cannot work with, it names in one line and ends with a code of its own; what is away, it waits for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from chassis import healthcheck
from chassis.run import EXIT_CODE_UNFIT_SCHEMA
from chassis.settings import EXIT_CODE_MISCONFIGURED
from deploy.ports import Ports
from deploy.process import wait_until
from deploy.services import SERVICES
from deploy.stack import Stack
from tests.conftest import database_like

ENDS_WITHIN_S = 60
SERVES_WITHIN_S = 60
NOWHERE = "127.0.0.1:1"
WITH_A_SCHEMA = {"reservations": "reservations", "payments": "payments", "scheduler": "reservations"}
NEWER = "INSERT INTO {}.migration VALUES ('{}/0099_contract_of_0098_x.sql', '')"
OLDER = "DELETE FROM {}.migration WHERE name LIKE '{}/0002%'"
WITH_A_BROKER = ("reservations", "payments", "scheduler", "gateway")


@dataclass(frozen=True)
class Surroundings:
    """What a service is told of its surroundings, unless a test says otherwise."""

    database_url: str
    amqp_url: str
    folder: Path

    def settings(self, name: str, listen_port: int = 0) -> dict[str, str]:
        every = {
            "AMQP_URL": self.amqp_url,
            "DATABASE_URL": self.database_url,
            "SHARDS": "1",
            "STORE_PATH": str(self.folder / "store.db"),
        }
        wanted = next(service for service in SERVICES if service.name == name).settings
        own = {
            setting: every.get(setting, NOWHERE) for setting in wanted if not setting.startswith(("AUTH_", "TRUSTED"))
        }
        return own | {"LISTEN_ADDRESS": f"127.0.0.1:{listen_port}", "METRICS_ADDRESS": "127.0.0.1:0"}


def variables(settings: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TICKETRUSH_")}
    return inherited | {f"TICKETRUSH_{name}": value for name, value in settings.items()}


def ended(name: str, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """One that must end by itself."""
    command = [sys.executable, "-m", name]
    return subprocess.run(
        command, env=variables(settings), capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=False
    )


@contextmanager
def running(name: str, settings: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", name], env=variables(settings), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def surroundings(stack: Stack, database_url: str, tmp_path: Path) -> Surroundings:
    return Surroundings(database_url, stack.env["AMQP_URL"], tmp_path)


@pytest.mark.parametrize("name", [service.name for service in SERVICES])
@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"LISTEN_ADDRESS": "nowhere"}, "TICKETRUSH_LISTEN_ADDRESS: must be HOST:PORT"),
        ({"LOG_LEVEL_FILE": "/nowhere/secret"}, "TICKETRUSH_LOG_LEVEL_FILE: cannot read /nowhere/secret"),
    ],
)
def test_a_wrong_setting_and_a_missing_secret_are_named(name: str, wrong: dict[str, str], complaint: str) -> None:
    found = ended(
        name, Surroundings("postgresql://127.0.0.1:1/x", "amqp://127.0.0.1:1/", Path("/")).settings(name) | wrong
    )
    assert found.returncode == EXIT_CODE_MISCONFIGURED, found
    assert complaint in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == "", "it has not begun to work"


@pytest.mark.parametrize(
    ("name", "sql", "complaint"),
    [
        ("reservations", NEWER, "is newer than this code"),
        ("scheduler", NEWER, "is newer than this code"),
        ("payments", NEWER, "is newer than this code"),
        ("payments", OLDER, "is older than this code"),
    ],
)
def test_a_schema_that_is_not_for_this_code_is_named(
    surroundings: Surroundings, name: str, sql: str, complaint: str
) -> None:
    schema = WITH_A_SCHEMA[name]
    with psycopg.connect(surroundings.database_url, autocommit=True) as conn:
        conn.execute(sql.format(schema, schema).encode())
    found = ended(name, surroundings.settings(name))
    assert found.returncode == EXIT_CODE_UNFIT_SCHEMA, found
    [line] = found.stderr.strip().splitlines()
    assert line.startswith(f"Cannot work, schema {schema} {complaint}")
    assert '"listening"' not in found.stdout, "traffic stays away"


@pytest.mark.parametrize("name", WITH_A_BROKER)
def test_an_engine_that_is_away_is_waited_for_and_named(name: str, surroundings: Surroundings, tmp_path: Path) -> None:
    settings = surroundings.settings(name, _free_port(tmp_path))
    away = {"AMQP_URL": f"amqp://x:x@{NOWHERE}/", "DATABASE_URL": f"postgresql://x:x@{NOWHERE}/x"}
    missing = ["broker"] if name == "gateway" else ["broker", "database"]
    log = tmp_path / "log"
    with running(name, settings | {key: away[key] for key in away if key in settings}, log) as process:
        assert wait_until(lambda: b"not serving, waiting for" in log.read_bytes(), SERVES_WITHIN_S), log.read_text()
        told = log.read_text().partition("not serving, waiting for: ")[2].partition('"')[0]
        assert set(missing) <= set(told.split(", ")) or name == "gateway", told
        assert process.poll() is None
        assert not healthcheck.is_serving(settings["LISTEN_ADDRESS"], 1.0)


def test_a_database_that_comes_back_newer_than_the_code_ends_it(stack: Stack, template: str, tmp_path: Path) -> None:
    """Nobody could look at the start: it is looked at as soon as it answers."""
    with database_like(stack.env["DATABASE_URL"], template) as url:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("INSERT INTO payments.migration VALUES ('payments/0099_contract_of_0098_x.sql', '')")
        _allow_connections(stack, url, "false")
        surroundings = Surroundings(url, stack.env["AMQP_URL"], tmp_path)
        log = tmp_path / "log"
        with running("payments", surroundings.settings("payments", _free_port(tmp_path)), log) as process:
            assert wait_until(lambda: b"is looked at once" in log.read_bytes(), SERVES_WITHIN_S), log.read_text()
            _allow_connections(stack, url, "true")
            assert process.wait(ENDS_WITHIN_S) == EXIT_CODE_UNFIT_SCHEMA, log.read_text()
        assert "Cannot work, schema payments is newer" in log.read_text()


def _allow_connections(stack: Stack, url: str, word: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {word}".encode())


def _free_port(folder: Path) -> int:
    return Ports(folder).settle(["one"], [])["one"]
