"""The commands as a person types them, on a whole stack: up, kill -9, up, status, logs, down, clean."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import environment
from deploy.ha.stack import HA, KIND
from deploy.process import Process
from deploy.services import NAMES, ROLES, SERVICES
from deploy.stack import Stack
from tests.deploy.test_stack import processes_of

DEADLINE_S = 240
ROOT = Path(__file__).parents[2]


class Shell:
    """Runs commands on a run directory whose name is as awkward as a path may be."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        ours = {"TICKETRUSH_RUN_DIR": str(run_dir), "TICKETRUSH_GATEWAY_PORT": "0"}
        ambient = ("TICKETRUSH_", "DATABASE_URL", "AMQP_URL", "RABBITMQ_MANAGEMENT_URL", "RUNTIME")
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(ambient)} | ours

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "deploy", *arguments], variables)

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self._run(["make", "--no-print-directory", f"--directory={ROOT}", *arguments], variables)

    def _run(self, command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        environment = self._environment | variables
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def pid(self, name: str) -> int:
        return int((self.run_dir / f"{name}.pid").read_text())


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "run with a space")
    yield shell
    shell.run("clean")


def test_the_whole_stack_comes_up_comes_back_and_goes_down(shell: Shell) -> None:
    first = shell.run("up")
    assert first.returncode == 0, first.stdout + first.stderr
    pids = {name: shell.pid(name) for name in NAMES}
    env = environment.read(shell.run_dir / "stack.env")

    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    again = shell.run("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert environment.read(shell.run_dir / "stack.env") == env
    assert all(Stack(shell.run_dir).is_serving(service.name) for service in SERVICES)
    assert not set(pids.values()) & {shell.pid(name) for name in NAMES}

    once_more = shell.run("up")
    assert [line for line in once_more.stdout.splitlines() if " is up " in line] == []

    status = shell.run("status")
    assert status.returncode == 0
    for address in (
        env["GATEWAY_ADDRESS"],
        env["RABBITMQ_MANAGEMENT_URL"],
        f"{env['PAYMENTS_METRICS_ADDRESS']}/metrics",
    ):
        assert address in status.stdout
    assert '"serving"' in shell.run("logs", "gateway").stdout

    stopped = shell.run("down")
    assert [line.split()[0] for line in stopped.stdout.splitlines()] == [*reversed(NAMES[1:]), "epmd", "postgres"]
    assert "killed" not in stopped.stdout
    assert processes_of(shell.run_dir) == []
    at_rest = shell.run("status")
    assert at_rest.returncode == 3
    assert at_rest.stdout.rstrip().endswith("make up starts what does not run")

    assert shell.run("clean").returncode == 0
    assert not shell.run_dir.exists()


def test_before_the_first_up_status_and_logs_say_what_to_do(shell: Shell) -> None:
    status, logs = shell.run("status"), shell.run("logs")
    assert (status.returncode, logs.returncode) == (3, 1)
    assert "start the stack with: make up" in status.stdout
    assert "start the stack with: make up" in logs.stderr


def test_make_takes_what_does_not_run_for_an_answer_and_what_is_wrong_for_an_error(shell: Shell) -> None:
    shown = shell.make("status")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "start the stack with: make up" in shown.stdout
    assert shell.make("status", TICKETRUSH_GATEWAY_PORT="http").returncode != 0


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RUNTIME": "podman"}, "error: RUNTIME must be local or compose, not 'podman'"),
        ({"TICKETRUSH_GATEWAY_PORT": "http"}, "error: TICKETRUSH_GATEWAY_PORT must be a port"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/none"}, "error: no PostgreSQL can be used at DATABASE_URL"),
        ({"DATABASE_URL": "nonsense"}, "error: no PostgreSQL can be used at DATABASE_URL"),
    ],
)
def test_a_wrong_setting_is_said_in_a_line(shell: Shell, variables: dict[str, str], message: str) -> None:
    refused = shell.run("up", **variables)
    assert refused.returncode == 1
    assert refused.stderr.startswith(message)
    assert "Traceback" not in refused.stderr


def test_several_of_everything_take_no_server_of_somebody_else(shell: Shell) -> None:
    refused = shell.run("up-ha", DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert refused.stderr == "error: several of everything bring their own servers; unset DATABASE_URL\n"


@pytest.mark.parametrize(("folder", "part", "command"), [("ha", "etcd-1", "up"), ("", "provider", "up-ha")])
def test_a_stack_is_of_one_kind_or_the_other(shell: Shell, folder: str, part: str, command: str) -> None:
    running = Process(part, shell.run_dir / folder)
    running.log.parent.mkdir(parents=True)
    running.start(["sleep", "60"], {"PATH": os.defpath}, directory=shell.run_dir)
    try:
        refused = shell.run(command)
    finally:
        running.kill()
    assert (refused.returncode, refused.stderr) == (
        1,
        "error: the other kind of stack runs here; stop it first: make down\n",
    )


def test_the_lines_of_stack_env_say_which_kind_the_commands_are_about(shell: Shell) -> None:
    environment.write(shell.run_dir / "stack.env", {KIND: HA})
    assert "there is no part gateway; there are etcd-1, " in " ".join(shell.run("logs", "gateway").stderr.split())
    assert shell.run("clean").returncode == 0
    assert "there is no part gateway" not in shell.run("logs", "gateway").stderr


def test_migrate_without_a_database_is_said_in_a_line(shell: Shell) -> None:
    assert shell.run("migrate").stderr == "error: DATABASE_URL is not set\n"


def test_migrating_a_database_that_is_not_there_is_said_in_a_line(shell: Shell) -> None:
    passwords = {role.password_variable: "x" for role in ROLES}
    done = shell.run("migrate", DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing", **passwords)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the database at DATABASE_URL"), done.stderr
    assert "Traceback" not in done.stderr


def test_the_logs_of_a_part_that_there_is_not_are_a_mistake_in_typing(shell: Shell) -> None:
    done = shell.run("logs", "gatway")
    assert done.returncode == 2
    assert "there is no part gatway" in " ".join(done.stderr.split()), done.stderr
