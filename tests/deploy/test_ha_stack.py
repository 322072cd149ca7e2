"""What the stack of several says of itself, and how it ends what outlives those that started it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy import postgres, process, rabbitmq
from deploy.errors import StackError
from deploy.ha import brokers, patroni, table
from deploy.ha.stack import HaStack, is_of_several
from deploy.ports import Ports
from deploy.process import Process
from deploy.rabbitmq import RabbitMQ
from deploy.services import BROKER_USERS, LOOPBACK, PROCESSES, ROLES, settings


@pytest.fixture
def ports(tmp_path: Path) -> dict[str, int]:
    return Ports(tmp_path).settle(list(table.ports()), ())


@pytest.fixture
def known(tmp_path: Path, ports: dict[str, int]) -> dict[str, str]:
    stack = HaStack(tmp_path)
    return stack._facts(ports, stack.servers.secrets)


def test_whoever_reads_stack_env_is_led_to_the_one_address(known: dict[str, str], ports: dict[str, int]) -> None:
    for service in table.CALLED:
        [address] = {service_.address for service_ in PROCESSES if service_.name == service}
        assert known[address] == f"{LOOPBACK}:{ports[table.door(service)]}"
    for url in ("DATABASE_URL", *(role.database_url for role in ROLES)):
        assert urlsplit(known[url]).port == ports[table.door("postgres")]
    for url in ("AMQP_URL", *(user.amqp_url for user in BROKER_USERS)):
        assert urlsplit(known[url]).port == ports[table.door("rabbitmq")]
    assert is_of_several(known)


def test_each_process_is_named_by_itself_too(known: dict[str, str], ports: dict[str, int]) -> None:
    assert known["GATEWAY_B_ADDRESS"] == f"{LOOPBACK}:{ports['gateway-b']}"
    assert known["PAYMENTS_A_METRICS_ADDRESS"] == f"{LOOPBACK}:{ports['payments-a_metrics']}"
    assert known["PROVIDER_ADDRESS"] == f"{LOOPBACK}:{ports['provider']}"


def test_both_sides_call_at_the_one_address_and_say_who_they_are_alike(
    tmp_path: Path, known: dict[str, str], ports: dict[str, int]
) -> None:
    stack = HaStack(tmp_path, settings={"payments": {"LOG_LEVEL": "DEBUG"}})
    for side in table.SIDES:
        told = stack._side(side, ports, known)._settings["payments"]
        assert told == {
            "RESERVATIONS_ADDRESS": known["RESERVATIONS_ADDRESS"],
            "PROVIDER_ADDRESS": known["PROVIDER_ADDRESS"],
            "LOG_LEVEL": "DEBUG",
        }
        assert (tmp_path / side / "tls").resolve() == tmp_path / "tls"
        assert (tmp_path / side / "issuer").resolve() == tmp_path / "issuer"


def test_every_setting_of_a_service_has_its_fact(known: dict[str, str]) -> None:
    for service in PROCESSES:
        assert settings(service, known)


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What looks like the PostgreSQL of a Patroni that was killed."""
    data = tmp_path / "postgres-a" / "data"
    data.mkdir(parents=True)
    # Whoever starts us in the background has SIGINT ignored, and whom we start inherits that.
    program = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=data, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        (data / "postmaster.pid").write_text(f"{process.pid}\n{data}\n")
        yield process
        process.kill()


@pytest.mark.usefixtures("ports")
def test_a_postgresql_that_outlived_its_patroni_is_stopped_with_the_rest(
    tmp_path: Path, orphan: subprocess.Popen[bytes]
) -> None:
    said: list[str] = []
    stack = HaStack(tmp_path, say=said.append)
    assert stack.pid("postgres-a") is None
    assert patroni.postmaster(tmp_path, "postgres-a") == orphan.pid
    with ThreadPoolExecutor() as pool:
        # As init does for the real one.
        reaped = pool.submit(orphan.wait)
        stack.down()
        assert reaped.result() == -postgres.STOP_SIGNAL
    assert said == ["postgres-a stopped"]


def test_a_pid_file_that_names_a_stranger_is_not_believed(tmp_path: Path) -> None:
    data = tmp_path / "postgres-a" / "data"
    data.mkdir(parents=True)
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n")
    assert patroni.postmaster(tmp_path, "postgres-a") is None


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[dict[str, Process]]:
    """Of the brokers and of epmd."""
    found = {name: Process(name, tmp_path) for name in (table.EPMD, *table.BROKERS)}
    yield found
    for one in found.values():
        one.kill()


@pytest.fixture
def nodes(tmp_path: Path, ports: dict[str, int], processes: dict[str, Process]) -> list[RabbitMQ]:
    return brokers.nodes(processes, tmp_path, ports, "secret", "cookie")


@pytest.mark.parametrize("dead", [("broker-2",), ("broker-2", "broker-3")], ids="+".join)
def test_a_broker_that_waits_for_dead_ones_names_them(
    dead: tuple[str, ...],
    tmp_path: Path,
    nodes: list[RabbitMQ],
    processes: dict[str, Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = tmp_path / "never-up"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(rabbitmq, "_SCRIPT", script)
    monkeypatch.setattr(process, "OTHERS_WITHIN_S", 0.1)
    for name in dead:
        processes[name].start([str(script)], {}, directory=tmp_path)
        processes[name].kill()
    node, *_ = nodes
    with pytest.raises(StackError, match=f"broker-1 cannot be up without {' and '.join(dead)}; start all"):
        node.start()
    assert node.process.pid is not None, "it is needed as soon as they are back"


def test_a_database_that_waits_for_the_dead_one_names_it(
    tmp_path: Path, ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "OTHERS_WITHIN_S", 0.1)
    other = Process("postgres-b", tmp_path)
    other.start(["sleep", "60"], os.environ, directory=tmp_path)
    other.kill()
    servers = HaStack(tmp_path).servers
    with pytest.raises(StackError, match="postgres-a cannot be ready without postgres-b; start all"):
        replace(servers, ports=ports)._await_databases(["postgres-a"])


@pytest.mark.parametrize(
    ("told", "to_start_again"),
    [
        ({"broker-1": [], "broker-2": [], "broker-3": []}, ""),
        ({"broker-1": ["broker-2"], "broker-2": ["broker-1", "broker-3"], "broker-3": ["broker-2"]}, "broker-2"),
        ({"broker-1": ["broker-2"], "broker-2": None, "broker-3": ["broker-2"]}, "broker-2"),
        ({"broker-1": ["broker-3"], "broker-3": ["broker-1"]}, "broker-3"),
        ({"broker-2": None}, ""),
    ],
    ids=["united", "one thawed", "and says nothing", "of two that are left", "nobody answers"],
)
def test_the_broker_that_most_are_parted_from_is_to_be_started_again(
    told: dict[str, list[str] | None], to_start_again: str, nodes: list[RabbitMQ], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {node.page: node.process.name for node in nodes}

    def ask(page: str, *_: object, **__: object) -> bytes:
        """As RabbitMQ 3.10: of others a node knows what they told it some seconds ago, which may be nothing."""
        parted = told[pages[page]]
        if parted is None:
            raise TimeoutError
        own = {"name": f"{pages[page]}@localhost", "partitions": [f"{peer}@localhost" for peer in parted]}
        return json.dumps([own, {"name": "another@localhost"}]).encode()

    monkeypatch.setattr(brokers, "ask", ask)
    assert brokers.apart([node for node in nodes if node.process.name in told]) == to_start_again


def test_queues_that_lack_a_member_are_named_and_leaders_are_counted() -> None:
    nodes = [f"{name}@localhost" for name in table.BROKERS]
    found: list[dict[str, Any]] = [
        {"name": "whole", "leader": nodes[0], "members": nodes},
        {"name": "short", "leader": nodes[0], "members": nodes[:2]},
        {"name": "headless", "leader": None},
    ]
    assert brokers.short_of_members(found) == ["headless", "short"]
    assert brokers.leaders(found) == {"broker-1": 2}
