"""PostgreSQL and RabbitMQ: private ones are installed and started where needed, somebody else's are only looked at."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from deploy.debian import install
from deploy.errors import StackError
from deploy.process import Process, wait_until

# For one that runs: it may be in the middle of a recovery.
ANSWER_DEADLINE_S: Final = 10.0


class Server(Protocol):
    """A private server that may be started. `fact` is the line of stack.env that says which one to use."""

    fact: str
    package: str
    process: Process

    @property
    def url(self) -> str:
        """What `fact` says if this private one is to be used."""

    def is_installed(self) -> bool:
        """Whether its programs are on this machine."""

    def check(self, url: str) -> None:
        """Raises StackError if nobody answers at the URL."""

    def start(self) -> None:
        """Starts it and waits until it answers. Raises StackError if it does not by the deadline."""


def bring_up(
    servers: Sequence[Server],
    facts: Mapping[str, str],
    apt_log: Path,
    *,
    stop: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    """Starts those private servers that do not run and are to be used, at once; `stop` ends one by name first.

    Raises StackError.
    """
    stopped: list[Server] = []
    for server in servers:
        name = server.process.name
        if facts[server.fact] != server.url:
            server.check(facts[server.fact])
            say(f"{name} is the one at {server.fact}")
        elif server.process.pid is None:
            stopped.append(server)
        elif wait_until(partial(_answers, server), ANSWER_DEADLINE_S):
            say(f"{name} runs already (pid {server.process.pid})")
        else:
            say(f"{name} (pid {server.process.pid}) runs, but does not answer; starting it again")
            stop(name)
            stopped.append(server)
    missing = [server.package for server in stopped if not server.is_installed()]
    if missing:
        install(missing, apt_log, say)
    with ThreadPoolExecutor() as pool:
        for started in [pool.submit(_start, server, say) for server in stopped]:
            started.result()


def _answers(server: Server) -> bool:
    try:
        server.check(server.url)
    except StackError:
        return False
    return True


def _start(server: Server, say: Callable[[str], None]) -> None:
    begin = time.monotonic()
    server.start()
    say(f"{server.process.name} is up (pid {server.process.pid}, after {time.monotonic() - begin:.1f} s)")
