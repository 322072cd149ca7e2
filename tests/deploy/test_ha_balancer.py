"""The one address: what stands behind it may die, and so may one of the two that stand before it."""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.ha import balancer, table
from deploy.ha.balancer import Balancer
from deploy.ports import Ports
from deploy.process import Process, wait_until
from deploy.services import LOOPBACK

pytestmark = pytest.mark.skipif(shutil.which(balancer.PROGRAM) is None, reason="no HAProxy: make up-ha installs it")
CALLS = 40
# Longer than a balancer takes to cut the lines of one that hangs.
ANSWER_TIMEOUT_S = 30
ROOT = Path(__file__).parents[2]


@pytest.fixture
def ports(tmp_path: Path) -> dict[str, int]:
    return Ports(tmp_path).settle(list(table.ports()), ())


@pytest.fixture
def balancers(tmp_path: Path, ports: dict[str, int]) -> Iterator[list[Balancer]]:
    both = [Balancer(Process(name, tmp_path), tmp_path, ports) for name in table.BALANCERS]
    for one in both:
        one.start()
    yield both
    for one in both:
        one.process.kill()


@pytest.fixture
def gateways(tmp_path: Path, ports: dict[str, int]) -> Iterator[list[Process]]:
    """Two that say their names, each in a process that can be killed and frozen."""
    both = [Process(instance.name, tmp_path) for instance in table.of("gateway")]
    for one in both:
        command = [sys.executable, "-m", "tests.deploy.echo", one.name]
        addresses = [str(ports[one.name]), str(ports[f"{one.name}_metrics"])]
        one.start([*command, *addresses], os.environ, directory=ROOT)
    yield both
    for one in both:
        one.kill()


@pytest.fixture
def at(balancers: list[Balancer], ports: dict[str, int]) -> int:
    """Where both balancers listen for callers of a gateway."""
    assert balancers
    return ports[table.door("gateway")]


def answers(port: int) -> set[str]:
    """Who answered, over many new connections; "" is a connection that nobody took."""
    found = set()
    for _ in range(CALLS):
        with closing(socket.create_connection((LOOPBACK, port), timeout=ANSWER_TIMEOUT_S)) as connection:
            try:
                found.add(connection.recv(100).decode())
            except ConnectionResetError:
                found.add("")
    return found


def test_who_stands_behind_the_address_may_die(at: int, gateways: list[Process]) -> None:
    assert wait_until(lambda: answers(at) == {"gateway-a", "gateway-b"}, 30)
    gateways[0].kill()
    # Whether it is known to be gone or not: a connection that it refuses goes on to the other one.
    assert answers(at) == {"gateway-b"}


def test_who_stands_behind_the_address_may_hang(at: int, gateways: list[Process]) -> None:
    """Its kernel goes on taking connections."""
    assert wait_until(lambda: answers(at) == {"gateway-a", "gateway-b"}, 30)
    pid = gateways[0].pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    assert wait_until(lambda: answers(at) == {"gateway-b"}, 30)
    os.kill(pid, signal.SIGCONT)
    assert wait_until(lambda: answers(at) == {"gateway-a", "gateway-b"}, 30)


def test_one_of_the_two_balancers_may_die(at: int, balancers: list[Balancer], gateways: list[Process]) -> None:
    both = {one.name for one in gateways}
    assert wait_until(lambda: answers(at) == both, 30)
    balancers[0].process.kill()
    assert answers(at) <= both
