"""The one address: what stands behind it may die, and so may one of the two that stand before it."""

import shutil
import socket
import threading
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


class Echo:
    """A server that says its name to whoever comes."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        self._listening = socket.create_server((LOOPBACK, port))
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with closing(connection):
                connection.sendall(self._name.encode())


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


def answers(port: int) -> set[str]:
    """Who answered, over many new connections; "" is a connection that nobody took."""
    found = set()
    for _ in range(CALLS):
        with closing(socket.create_connection((LOOPBACK, port), timeout=10)) as connection:
            try:
                found.add(connection.recv(100).decode())
            except ConnectionResetError:
                found.add("")
    return found


def test_who_stands_behind_the_address_may_die(balancers: list[Balancer], ports: dict[str, int]) -> None:
    assert balancers
    servers = [Echo(name, ports[name]) for name in ("gateway-a", "gateway-b")]
    at = ports[table.door("gateway")]
    assert wait_until(lambda: answers(at) == {"gateway-a", "gateway-b"}, 30)
    servers[0].close()
    # Whether it is known to be gone or not: a connection that it refuses goes on to the other one.
    assert answers(at) == {"gateway-b"}
    servers[1].close()


def test_one_of_the_two_balancers_may_die(balancers: list[Balancer], ports: dict[str, int]) -> None:
    server = Echo("gateway-b", ports["gateway-b"])
    at = ports[table.door("gateway")]
    assert wait_until(lambda: answers(at) == {"gateway-b"}, 30)
    balancers[0].process.kill()
    assert answers(at) == {"gateway-b"}
    server.close()
