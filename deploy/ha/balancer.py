"""The one address: two HAProxys that listen on the same ports, so that one of them may die."""

import os
import shutil
from collections.abc import Mapping
from hashlib import sha256
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from deploy.errors import StackError
from deploy.ha.table import BROKERS, CALLED, DATABASES, door, of
from deploy.process import Process, wait_until, write_atomically
from deploy.services import FRONTEND, LOOPBACK

PROGRAM: Final = "/usr/sbin/haproxy"
START_DEADLINE_S: Final = 20.0
_ANSWER_TIMEOUT_S: Final = 2.0
_ACCOUNT: Final = "haproxy"
# Of clients, for all doors together; each costs a file and two buffers.
_CONNECTIONS_MAX: Final = 8_000

# Streams, pools and consumers keep a line for hours and may be silent on it; who went away is found by TCP's own
# probes, and by the pings that both ends send through us.
_HEAD: Final = """\
# Written by deploy/ha/balancer.py at each start.
global
    maxconn {connections_max}
{account}
defaults
    mode tcp
    timeout connect 2s
    timeout check 2s
    timeout client 2h
    timeout server 2h
    option clitcpka
    option srvtcpka
    # Who is refused by one is sent to the next, within the same connection.
    option redispatch 1
    retries 3
    # A server that died is found by whoever calls it; one that hangs, by these looks. Its lines are then cut, so that
    # callers find the other one at once.
    default-server check inter 1s fastinter 500ms fall 3 rise 1 on-marked-down shutdown-sessions

listen {name}
    mode http
    bind {loopback}:{port}
    monitor-uri /alive
    stats enable
    stats uri /
"""


def render(name: str, ports: Mapping[str, int], account: str | None) -> str:
    """The configuration of one of the two: it differs from the other's in the page about itself."""
    head = _HEAD.format(
        connections_max=_CONNECTIONS_MAX,
        account=f"    user {account}\n    group {account}\n" if account else "",
        name=name,
        loopback=LOOPBACK,
        port=ports[name],
    )
    doors = []
    for service in CALLED:
        instances = {instance.name: ports[instance.port] for instance in of(service)}
        if service == FRONTEND.name:
            # Alive is enough: a front that waits for a gateway says so and keeps its streams, better than silence.
            doors.append(_door(service, ports, instances, "GET /healthz", instances))
        else:
            numbers = {instance.name: ports[instance.metrics_port] for instance in of(service)}
            doors.append(_door(service, ports, instances, "OPTIONS /metrics", numbers))
    # Only the primary says yes, and only while it holds the lock.
    databases = {name: ports[name] for name in DATABASES}
    patronis = {name: ports[f"{name}_patroni"] for name in DATABASES}
    doors.append(_door("postgres", ports, databases, "OPTIONS /primary", patronis))
    brokers = {name: ports[name] for name in BROKERS}
    management = {name: ports[f"{name}_management"] for name in BROKERS}
    doors.append(_door("rabbitmq", ports, brokers, "HEAD /", management))
    doors.append(_door("rabbitmq_management", ports, management, "HEAD /", management))
    return "\n".join([head, *doors])


def _door(name: str, ports: Mapping[str, int], servers: Mapping[str, int], look: str, pages: Mapping[str, int]) -> str:
    """`look` is what the page of each server answers while it is well.

    A connection would prove nothing: the kernel takes those of a frozen process, too.
    """
    lines = [
        f"listen {name}",
        f"    bind {LOOPBACK}:{ports[door(name)]}",
        "    balance roundrobin",
        f"    option httpchk {look}",
        *(f"    server {server} {LOOPBACK}:{port} port {pages[server]}" for server, port in servers.items()),
    ]
    return "\n".join(lines) + "\n"


class Balancer:
    """One of the two HAProxys, see `deploy.servers.Server`."""

    package = "haproxy"

    def __init__(self, process: Process, run_dir: Path, ports: Mapping[str, int]) -> None:
        self.process = process
        self.fact = process.name
        self._file = run_dir / f"{process.name}.cfg"
        self._ports = ports

    @property
    def url(self) -> str:
        """Its page."""
        return f"http://{LOOPBACK}:{self._ports[self.process.name]}/"

    @property
    def fingerprint(self) -> str:
        """Of its configuration."""
        return sha256(self._config().encode()).hexdigest()

    def is_installed(self) -> bool:
        return Path(PROGRAM).exists()

    def check(self, url: str) -> None:
        if not is_alive(self._ports[self.process.name]):
            raise StackError(f"no {self.process.name} answers at {url}")

    def start(self) -> None:
        process = self.process
        write_atomically(self._file, self._config())
        # In the foreground, one process: a master that looks after a worker would end with it.
        command = [PROGRAM, "-db", "-f", str(self._file)]
        process.start(command, {"PATH": os.defpath}, directory=Path("/"), fingerprint=self.fingerprint)
        port = self._ports[process.name]
        wait_until(lambda: process.pid is None or is_alive(port), START_DEADLINE_S)
        if process.pid is None or not is_alive(port):
            raise StackError(f"HAProxy does not come up; the end of {process.log}:\n{process.log_tail()}")

    def _config(self) -> str:
        account = _ACCOUNT if os.geteuid() == 0 and shutil.which("haproxy", path="/usr/sbin") else None
        return render(self.process.name, self._ports, account)


def is_alive(port: int) -> bool:
    """Whether the one with its page there answers."""
    connection = HTTPConnection(LOOPBACK, port, timeout=_ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/alive")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
