"""A private RabbitMQ node with its management page and its metrics, on loopback, its data under the run directory."""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping, Sequence
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
from deploy.process import Process, dead, wait_until, wait_with_others, write_atomically
from deploy.services import BROKER_ADMINISTRATOR, LOOPBACK

START_DEADLINE_S: Final = 90.0
# A node of a cluster asks the others for its tables ten times, for 30 s each.
START_DEADLINE_IN_CLUSTER_S: Final = 330.0
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
_NODE: Final = "ticketrush"

# For people, for Prometheus, and by which several shards are chosen among.
PLUGINS: Final = ("rabbitmq_management", "rabbitmq_prometheus", "rabbitmq_consistent_hash_exchange")
PORTS: Final = ("rabbitmq", "rabbitmq_management", "rabbitmq_metrics", "rabbitmq_distribution", "epmd")


def full_name(name: str) -> str:
    """A node's full name to Erlang."""
    return f"{name}@localhost"


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
    """A private node with its data in `home`, see `deploy.servers.Server`. `epmd` is Erlang's name service, ours alone.

    `name` is that of the node to Erlang; nodes that have each other as `peers`, and share a cookie, are one cluster.
    """

    fact = "AMQP_URL"
    package = "rabbitmq-server"

    def __init__(
        self,
        node: Process,
        epmd: Process,
        home: Path,
        ports: Mapping[str, int],
        password: str,
        *,
        name: str = _NODE,
        peers: Sequence[Process] = (),
    ) -> None:
        self.process = node
        self._epmd = epmd
        self._home = home
        self._ports = ports
        self._password = password
        self._name = name
        self._peers = peers

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
        _configure(self._home, ports, self._password, [peer.name for peer in self._peers])
        start_epmd(epmd, self._home, ports["epmd"])
        node.start([str(_SCRIPT)], self.environment, directory=self._home)
        deadline_s = START_DEADLINE_IN_CLUSTER_S if self._peers else START_DEADLINE_S
        over = wait_with_others(lambda: node.pid is None or _is_up(ports), deadline_s, self._peers)
        if not over and (missed := dead(self._peers)):
            # It takes its tables from whoever had them last.
            raise StackError(f"{node.name} cannot be up without {' and '.join(missed)}; start all with: make up-ha")
        if not over or node.pid is None:
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
        page, stock = self.page, f"amqp://{_STOCK_USER}:{_STOCK_USER}@{LOOPBACK}/"
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
    def environment(self) -> dict[str, str]:
        """Of its process, and of RabbitMQ's own tools when they ask it."""
        return _environment(self._home, self.process.log, self._ports, self._name)

    @property
    def page(self) -> str:
        """Its management page."""
        return f"http://{LOOPBACK}:{self._ports['rabbitmq_management']}"

    def wait_until_queues_are_on_disk(self) -> bool:
        """Waits until kill -9 cannot lose a queue any more; False if that is not so, or not known, by the deadline.

        RabbitMQ confirms a new quorum queue up to a second before its registration is on disk (names.dets, saved twice
        a second); killed in between it comes back with a queue that never elects a leader.
        """
        return wait_until(self._queues_are_on_disk, _QUEUES_DEADLINE_S)

    def _queues_are_on_disk(self) -> bool:
        saved = b"".join(file.read_bytes() for file in self._home.glob("data/*/quorum/*/names.dets"))
        try:
            queues = self._quorum_queues()
        except OSError:  # it is gone, or its page is not there yet
            return False
        return all(_registration(name) in saved for name in queues)

    def _quorum_queues(self) -> list[str]:
        answer = ask(self.page, self.url, "GET", "/api/queues?columns=name,type")
        queues: list[dict[str, str]] = json.loads(answer)
        return [queue["name"] for queue in queues if queue["type"] == "quorum"]


def _registration(queue: str) -> bytes:
    """A queue's name as Erlang writes it: virtual host / and queue, behind their length."""
    name = b"%2F_" + queue.encode()
    return bytes([len(name)]) + name


def start_epmd(epmd: Process, home: Path, port: int) -> None:
    """Starts it if it does not run: a node starts none of its own."""
    if epmd.pid is None:
        binary = shutil.which("epmd") or "/usr/lib/erlang/bin/epmd"
        epmd.start([binary], _environment_of_epmd(home, port), directory=home)
        wait_until(lambda: epmd.pid is None or accepts(port), _EPMD_DEADLINE_S)


def _environment_of_epmd(home: Path, port: int) -> dict[str, str]:
    return {
        "PATH": f"{os.defpath}:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        # Erlang keeps its cookie there.
        "HOME": str(home),
        "ERL_EPMD_PORT": str(port),
        "ERL_EPMD_ADDRESS": LOOPBACK,
    }


def _environment(home: Path, log: Path, ports: Mapping[str, int], name: str) -> dict[str, str]:
    return _environment_of_epmd(home, ports["epmd"]) | {
        "ERL_CRASH_DUMP_SECONDS": "0",
        # A node that misses epmd would start one that outlives it, and holds the port of the one that we start again.
        "ERL_ZFLAGS": "-start_epmd false",
        "RABBITMQ_NODENAME": full_name(name),
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


def _configure(home: Path, ports: Mapping[str, int], password: str, peers: Sequence[str]) -> None:
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
    if peers:
        lines += [
            "cluster_formation.peer_discovery_backend = classic_config",
            *(
                f"cluster_formation.classic_config.nodes.{number} = {full_name(peer)}"
                for number, peer in enumerate(peers, 1)
            ),
            # A node that sees no majority stops serving instead of deciding alone.
            "cluster_partition_handling = pause_minority",
            # The leaders of the queues are spread over the nodes.
            "queue_leader_locator = balanced",
        ]
    write_atomically(home / "rabbitmq.conf", "\n".join(lines) + "\n")
    # Written by hand, which a node that is up does not notice: a plugin that is new here comes with its next start.
    (home / "enabled_plugins").write_text(f"[{','.join(PLUGINS)}].\n")
    # Present and empty, so that the machine's own /etc/rabbitmq/rabbitmq-env.conf is not read.
    (home / "environment").write_text("")


def _is_up(ports: Mapping[str, int]) -> bool:
    """The AMQP port opens last, when all the rest is up."""
    return accepts(ports["rabbitmq"]) and accepts(ports["rabbitmq_management"])
