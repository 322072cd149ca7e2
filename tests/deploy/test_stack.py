"""Services come up, come back after kill -9, are not started twice, and go down without a trace.

With the provider, the one service that needs no server.
"""

import os
import signal
import socket
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from deploy import environment, rabbitmq
from deploy import stack as stack_module
from deploy.errors import StackError
from deploy.facts import External
from deploy.services import LOOPBACK, NAMES, SERVICES
from deploy.stack import Stack

PROVIDER = ("provider",)


def processes_of(run_dir: Path) -> list[int]:
    """Whatever runs with this run directory in its command or its environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(run_dir).encode() in told:
            found.append(int(entry.name))
    return found


def test_up_waits_until_the_service_is_serving(stack: Stack) -> None:
    stack.up(PROVIDER)
    assert stack.is_serving("provider")


def test_up_again_leaves_what_runs_alone(stack: Stack) -> None:
    stack.up(PROVIDER)
    pid, address = stack.pid("provider"), stack.address("provider")
    Stack(stack.run_dir).up(PROVIDER)
    assert (stack.pid("provider"), stack.address("provider")) == (pid, address)


def test_up_brings_back_what_was_killed_on_the_same_address(stack: Stack) -> None:
    stack.up(PROVIDER)
    pid, address = stack.pid("provider"), stack.address("provider")
    stack.kill("provider")
    stack.up(PROVIDER)
    assert stack.pid("provider") not in {None, pid}
    assert stack.address("provider") == address
    assert stack.is_serving("provider")


def test_up_is_not_fooled_by_a_pid_file_that_names_a_stranger(stack: Stack) -> None:
    stack.up(PROVIDER)
    stack.kill("provider")
    pid_file = stack.run_dir / "provider.pid"
    pid_file.write_text(f"{os.getpid()}\n")
    stack.up(PROVIDER)
    assert pid_file.read_text() == f"{stack.pid('provider')}\n"
    assert stack.is_serving("provider")


def test_a_service_whose_settings_changed_is_started_again(stack: Stack) -> None:
    stack.up(PROVIDER)
    pid = stack.pid("provider")
    Stack(stack.run_dir, settings={"provider": {"LOG_LEVEL": "DEBUG"}}).up(PROVIDER)
    assert stack.pid("provider") not in {None, pid}


def test_two_ups_at_once_start_one_process(tmp_path: Path) -> None:
    said: list[str] = []
    stacks = [Stack(tmp_path / "run", say=said.append) for _ in range(2)]
    ups = [threading.Thread(target=stack.up, args=(PROVIDER,)) for stack in stacks]
    try:
        for up in ups:
            up.start()
        for up in ups:
            up.join()
        assert len(processes_of(stacks[0].run_dir)) == 1
        assert "another command is changing this stack; waiting for it" in said
    finally:
        stacks[0].clean()


def test_down_leaves_nothing_running_and_keeps_the_data(stack: Stack) -> None:
    stack.up(PROVIDER)
    store = Path(stack.env["PROVIDER_STORE_PATH"])
    stack.down()
    assert processes_of(stack.run_dir) == []
    assert not (stack.run_dir / "provider.pid").exists()
    assert store.exists()


def test_down_kills_what_does_not_stop_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "STOP_DEADLINE_S", 0.2)
    said: list[str] = []
    with Stack(tmp_path / "run", say=said.append) as stack:
        stack.up(PROVIDER)
        pid = stack.pid("provider")
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    assert said[-1] == "provider did not stop within 0 s and was killed"
    assert processes_of(stack.run_dir) == []


def test_clean_removes_the_run_directory_but_none_that_is_not_ours(stack: Stack, tmp_path: Path) -> None:
    stack.up(PROVIDER)
    stack.clean()
    assert not stack.run_dir.exists()
    Stack(tmp_path).clean()
    assert tmp_path.exists()


def test_a_service_that_cannot_start_ends_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    with (
        Stack(tmp_path / "run", settings={"provider": {"LISTEN_ADDRESS": "nowhere"}}) as stack,
        pytest.raises(StackError, match=r"(?s)provider ended while it started.*must be HOST:PORT.*make up"),
    ):
        stack.up(PROVIDER)


def test_a_taken_gateway_port_is_said_with_the_way_out(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.ports._RELEASE_DEADLINE_S", 0.0)
    with socket.create_server((LOOPBACK, 0)) as stranger:
        fixed = Stack(stack.run_dir, gateway_port=stranger.getsockname()[1])
        with pytest.raises(StackError, match=r"taken by another program.*TICKETRUSH_GATEWAY_PORT=0 make up"):
            fixed.up(("gateway",))


def test_stack_env_tells_where_everything_is_to_its_owner_only(stack: Stack) -> None:
    stack.up(())
    expected = {"DATABASE_URL", "AMQP_URL", "RABBITMQ_MANAGEMENT_URL"}
    for service in SERVICES:
        expected |= {service.address, service.metrics_address}
    assert expected <= stack.env.keys()
    for name in ("stack.env", "secrets.env"):
        assert stat.S_IMODE((stack.run_dir / name).stat().st_mode) == 0o600


def test_servers_of_somebody_else_are_used_and_not_started(tmp_path: Path, own_servers: Stack) -> None:
    external = External(own_servers.env["DATABASE_URL"], own_servers.env["AMQP_URL"])
    with Stack(tmp_path / "run", external=external) as stack:
        stack.up(("postgres", "rabbitmq"))
        assert stack.env["DATABASE_URL"] == own_servers.env["DATABASE_URL"]
        assert stack.env["GATEWAY_AMQP_URL"] == own_servers.env["AMQP_URL"]
        assert [name for name in NAMES if stack.pid(name)] == []


def test_users_of_our_own_are_made_in_a_broker_of_somebody_else_where_we_are_told_how(
    tmp_path: Path, own_servers: Stack
) -> None:
    env = own_servers.env
    environment.write(tmp_path / "run/secrets.env", environment.passwords(own_servers.run_dir / "secrets.env"))
    external = External(env["DATABASE_URL"], env["AMQP_URL"], env["RABBITMQ_MANAGEMENT_URL"])
    with Stack(tmp_path / "run", external=external) as stack:
        stack.up(("rabbitmq",))
        rabbitmq.check(stack.env["GATEWAY_AMQP_URL"])
        assert "ticketrush_gateway:" in stack.env["GATEWAY_AMQP_URL"]
    modest = External(env["DATABASE_URL"], env["GATEWAY_AMQP_URL"], env["RABBITMQ_MANAGEMENT_URL"])
    with (
        Stack(tmp_path / "run", external=modest) as stack,
        pytest.raises(StackError, match="make it an administrator, or unset RABBITMQ_MANAGEMENT_URL"),
    ):
        stack.up(("rabbitmq",))


def test_a_server_of_somebody_else_that_is_not_there_is_said(tmp_path: Path) -> None:
    nowhere = External("postgresql://nobody@127.0.0.1:1/none", "amqp://127.0.0.1:1/")
    stack = Stack(tmp_path / "run", external=nowhere)
    with pytest.raises(StackError, match="no PostgreSQL can be used at DATABASE_URL"):
        stack.up(("postgres",))
    with pytest.raises(StackError, match="no broker can be used at AMQP_URL"):
        stack.up(("rabbitmq",))
    stack = Stack(tmp_path / "run", external=External(amqp_url="nonsense"))
    with pytest.raises(StackError, match="no broker can be used at AMQP_URL"):
        stack.up(("rabbitmq",))


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        stack = Stack(tmp_path / "run", gateway_port=taken.getsockname()[1])
        with pytest.raises(StackError, match="is taken by another program"):
            stack.up()
    assert [name for name in NAMES if stack.pid(name)] == []
