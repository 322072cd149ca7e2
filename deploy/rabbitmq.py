"""A private RabbitMQ node with its management page and its metrics, on loopback, its data under the run directory."""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.error import HTTPError

import aio_pika
import aio_pika.exceptions

from deploy.broker import ask
from deploy.errors import StackError
from deploy.ports import accepts
from deploy.process import Process, wait_until, write_atomically
from deploy.services import BROKER_ADMINISTRATOR, LOOPBACK

START_DEADLINE_S: Final = 90.0
STOP_DEADLINE_S: Final = 20.0
_EPMD_DEADLINE_S: Final = 10.0
_QUEUES_DEADLINE_S: Final = 10.0
_CHECK_TIMEOUT_S: Final = 5.0
_DISK_FREE_LIMIT_BYTES: Final = 200 * 1024 * 1024
_MEMORY_LIMIT_BYTES: Final = 1024 * 1024 * 1024
# The package's own script: the one on PATH is a wrapper that switches to another user.
_SCRIPT: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# RabbitMQ's stock user, whose password is the same. A new node never has it; one of an earlier version may.
_STOCK_USER: Final = "guest"

PORTS: Final = ("rabbitmq", "rabbitmq_management", "rabbitmq_metrics", "rabbitmq_distribution", "epmd")


def url(port: int, password: str) -> str:
    """The AMQP URL of the private node for its administrator."""
    return f"amqp://{BROKER_ADMINISTRATOR}:{password}@{LOOPBACK}:{port}/"


def check(amqp_url: str) -> None:
    """Raises StackError if no broker answers at the URL."""

    async def connect() -> None:
        connection = await aio_pika.connect(amqp_url, timeout=_CHECK_TIMEOUT_S)
        await connection.close()

    try:
        asyncio.run(connect())
    except (OSError, TimeoutError, ValueError, aio_pika.exceptions.AMQPError) as error:
        raise StackError(f"no broker can be used at AMQP_URL: {error}") from error


class RabbitMQ:
    """The private node of a run directory, see `deploy.servers.Server`. `epmd` is Erlang's name service, ours alone."""

    fact = "AMQP_URL"
    package = "rabbitmq-server"

    def __init__(self, node: Process, epmd: Process, run_dir: Path, ports: Mapping[str, int], password: str) -> None:
        self.process = node
        self._epmd = epmd
        self._home = run_dir / "rabbitmq"
        self._ports = ports
        self._password = password

    @property
    def url(self) -> str:
        return url(self._ports["rabbitmq"], self._password)

    def is_installed(self) -> bool:
        return _SCRIPT.exists()

    def check(self, url: str) -> None:
        check(url)

    def start(self) -> None:
        node, epmd, ports = self.process, self._epmd, self._ports
        self._home.mkdir(exist_ok=True)
        environment = _environment(self._home, node.log, ports)
        _configure(self._home, ports, self._password)
        if epmd.pid is None:
            # Started here, because a node that finds none starts one that outlives it.
            binary = shutil.which("epmd") or "/usr/lib/erlang/bin/epmd"
            epmd.start([binary], environment, directory=self._home)
            wait_until(lambda: epmd.pid is None or accepts(ports["epmd"]), _EPMD_DEADLINE_S)
        node.start([str(_SCRIPT)], environment, directory=self._home)
        wait_until(lambda: node.pid is None or _is_up(ports), START_DEADLINE_S)
        if node.pid is None or not _is_up(ports):
            raise StackError(
                f"RabbitMQ did not come up on port {ports['rabbitmq']}; the end of {node.log}:\n{node.log_tail()}"
            )
        self._replace_stock_user()

    def forget(self) -> None:
        """Sets its data aside; it must be stopped. For when what its messages tell of has never happened."""
        data = self._home / "data"
        if data.exists():
            data.rename(self._home / f"data.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")

    def _replace_stock_user(self) -> None:
        """In a node that still has it: the configured administrator is made only with new data."""
        page, stock = self._page, f"amqp://{_STOCK_USER}:{_STOCK_USER}@{LOOPBACK}/"
        try:
            ask(page, stock, "GET", "/api/whoami")
        except HTTPError as error:
            if error.code != HTTPStatus.UNAUTHORIZED:
                raise
            return
        user = {"password": self._password, "tags": "administrator"}
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        ask(page, stock, "PUT", f"/api/users/{BROKER_ADMINISTRATOR}", json.dumps(user).encode())
        ask(page, stock, "PUT", f"/api/permissions/%2F/{BROKER_ADMINISTRATOR}", json.dumps(everything).encode())
        ask(page, self.url, "DELETE", f"/api/users/{_STOCK_USER}")

    @property
    def _page(self) -> str:
        return f"http://{LOOPBACK}:{self._ports['rabbitmq_management']}"

    def wait_until_queues_are_on_disk(self) -> bool:
        """Waits until kill -9 cannot lose a queue any more; False if that is not so by the deadline.

        RabbitMQ confirms a new quorum queue up to a second before its registration is on disk (names.dets, saved twice
        a second); killed in between it comes back with a queue that never elects a leader.
        """
        return wait_until(self._queues_are_on_disk, _QUEUES_DEADLINE_S)

    def _queues_are_on_disk(self) -> bool:
        saved = b"".join(file.read_bytes() for file in self._home.glob("data/*/quorum/*/names.dets"))
        return all(_registration(name) in saved for name in self._quorum_queues())

    def _quorum_queues(self) -> list[str]:
        answer = ask(self._page, self.url, "GET", "/api/queues?columns=name,type")
        queues: list[dict[str, str]] = json.loads(answer)
        return [queue["name"] for queue in queues if queue["type"] == "quorum"]


def _registration(queue: str) -> bytes:
    """A queue's name as Erlang writes it: virtual host / and queue, behind their length."""
    name = b"%2F_" + queue.encode()
    return bytes([len(name)]) + name


def _environment(home: Path, log: Path, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "PATH": f"{os.defpath}:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        # Erlang keeps its cookie there.
        "HOME": str(home),
        "ERL_EPMD_PORT": str(ports["epmd"]),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": "ticketrush@localhost",
        "RABBITMQ_DIST_PORT": str(ports["rabbitmq_distribution"]),
        "RABBITMQ_CONF_ENV_FILE": str(home / "environment"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_LOGS": str(log),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(home / "feature_flags"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "config"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        # Without a supervising shell in between, the process that we started is the node itself. This switch also
        # leaves out the two arguments for a node that has no terminal, so they are given here.
        "RABBITMQ_ALLOW_INPUT": "1",
        "RABBITMQ_SERVER_START_ARGS": "-noinput +B i",
    }


def _configure(home: Path, ports: Mapping[str, int], password: str) -> None:
    lines = [
        f"default_user = {BROKER_ADMINISTRATOR}",
        f"default_pass = {password}",
        f"listeners.tcp.default = {LOOPBACK}:{ports['rabbitmq']}",
        f"management.tcp.ip = {LOOPBACK}",
        f"management.tcp.port = {ports['rabbitmq_management']}",
        f"prometheus.tcp.ip = {LOOPBACK}",
        f"prometheus.tcp.port = {ports['rabbitmq_metrics']}",
        f"disk_free_limit.absolute = {_DISK_FREE_LIMIT_BYTES}",
        f"vm_memory_high_watermark.absolute = {_MEMORY_LIMIT_BYTES}",
    ]
    write_atomically(home / "rabbitmq.conf", "\n".join(lines) + "\n")
    # Written by hand, which a node that is up does not notice: a plugin that is new here comes with its next start.
    plugins = "rabbitmq_management,rabbitmq_prometheus,rabbitmq_consistent_hash_exchange"
    (home / "enabled_plugins").write_text(f"[{plugins}].\n")
    # Present and empty, so that the machine's own /etc/rabbitmq/rabbitmq-env.conf is not read.
    (home / "environment").write_text("")


def _is_up(ports: Mapping[str, int]) -> bool:
    """The AMQP port opens last, when all the rest is up."""
    return accepts(ports["rabbitmq"]) and accepts(ports["rabbitmq_management"])
