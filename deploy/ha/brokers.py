"""Three RabbitMQ nodes as one cluster: each quorum queue has a member on every one of them."""

import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from deploy.broker import ask
from deploy.ha.table import BROKERS, EPMD
from deploy.process import Process, wait_until, write_atomically
from deploy.rabbitmq import RabbitMQ, full_name
from deploy.services import SETTING_PREFIX

COOKIE: Final = f"{SETTING_PREFIX}ERLANG_COOKIE"
TOGETHER_DEADLINE_S: Final = 60.0
_QUEUES: Final = "/usr/lib/rabbitmq/bin/rabbitmq-queues"
_GROW_TIMEOUT_S: Final = 60.0
_LOOK_TIMEOUT_S: Final = 5.0
# Twice what passes until a node's page tells what has become different.
TOLD_WITHIN_S: Final = 10.0


def nodes(
    processes: Mapping[str, Process], run_dir: Path, ports: Mapping[str, int], password: str, cookie: str
) -> list[RabbitMQ]:
    """All of them, each knowing the others; `cookie` is the secret by which nodes know each other."""
    found = []
    for name in BROKERS:
        home = run_dir / name
        _give_cookie(home, cookie)
        own = {
            "rabbitmq": ports[name],
            "rabbitmq_management": ports[f"{name}_management"],
            "rabbitmq_metrics": ports[f"{name}_metrics"],
            "rabbitmq_distribution": ports[f"{name}_distribution"],
            "epmd": ports[EPMD],
        }
        node = RabbitMQ(
            processes[name], processes[EPMD], home, own, password, name=name, peers=[processes[one] for one in BROKERS]
        )
        # Which of them is used is not asked by URL.
        node.fact = name
        found.append(node)
    return found


def is_new(run_dir: Path, name: str) -> bool:
    """Whether a node has never been started."""
    return not (run_dir / name / "data").exists()


def are_together(started: Sequence[RabbitMQ]) -> bool:
    """Waits until each node whose process lives runs in the cluster of these; False if not by the deadline."""
    return wait_until(lambda: _running(started[0]) >= len(started), TOGETHER_DEADLINE_S)


def grow(node: RabbitMQ) -> None:
    """Makes a node a member of each quorum queue that it is no member of yet: those declared while it was away."""
    subprocess.run(
        [_QUEUES, "grow", full_name(node.process.name), "all"],
        env=node.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_GROW_TIMEOUT_S,
        # It counts a queue that has that member already as a failure: what came of it is asked afterwards.
        check=False,
    )


def apart(nodes: Sequence[RabbitMQ]) -> str:
    """The node that others say they are parted from, "" if none: it is to be started again.

    One that was frozen for longer than RabbitMQ's net tick, 45 to 75 s, took the others for dead, as they did it.
    Thawed, it may go on with tables of its own, for ever: what is said to it does not reach who is connected to them.
    """
    # At once: while one hangs, those who wait for it answer late.
    with ThreadPoolExecutor() as pool:
        named = Counter(peer for told in pool.map(_parted_from, nodes) for peer in told)
    # Of two that name each other one must go; the first is whom others join.
    return max(named, key=lambda name: (named[name], name)) if named else ""


def _parted_from(node: RabbitMQ) -> list[str]:
    """Whom a node says it is parted from, by their short names; nobody if it does not answer."""
    try:
        told = ask(node.page, node.url, "GET", "/api/nodes?columns=name,partitions", timeout_s=_LOOK_TIMEOUT_S)
    except OSError:
        return []
    own = full_name(node.process.name)
    # One that has just started has not said yet.
    parted = [peer for one in json.loads(told) if one["name"] == own for peer in one.get("partitions", ())]
    return [peer.partition("@")[0] for peer in parted]


def queues(node: RabbitMQ) -> list[dict[str, Any]]:
    """The quorum queues: name, leader, members and online, by the nodes' full names. Raises OSError."""
    told = ask(node.page, node.url, "GET", "/api/queues?columns=name,type,leader,members,online")
    found: list[dict[str, Any]] = json.loads(told)
    return [queue for queue in found if queue["type"] == "quorum"]


def queues_by_any(nodes: Sequence[RabbitMQ]) -> list[dict[str, Any]]:
    """The same, by the first that answers. Raises OSError when none does."""
    problem = OSError("there is no broker")
    for node in nodes:
        try:
            return queues(node)
        except OSError as error:
            problem = error
    raise problem


def short_of_members(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The queues that not every node is a member of."""
    return sorted(queue["name"] for queue in found if len(queue.get("members", ())) < len(BROKERS))


def leaders(found: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How many queues each node leads, by its short name."""
    return Counter(str(queue["leader"]).partition("@")[0] for queue in found if queue.get("leader"))


def _running(node: RabbitMQ) -> int:
    try:
        told = ask(node.page, node.url, "GET", "/api/nodes?columns=running")
    except OSError:
        return 0
    return sum(bool(one.get("running")) for one in json.loads(told))


def _give_cookie(home: Path, cookie: str) -> None:
    file = home / ".erlang.cookie"
    if not file.exists() or file.read_text() != cookie:
        write_atomically(file, cookie)
        file.chmod(0o400)
