"""What is measured: TicketRush as deployed, the baseline, and the ceilings; each with the processes that serve it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from bench.report import OURS
from deploy.ports import accepts, is_free
from deploy.process import wait_until
from deploy.services import LOOPBACK, SERVICES, SETTING_PREFIX, certificate_files, settings
from deploy.stack import Stack

START_DEADLINE_S: Final = 20.0
STOP_DEADLINE_S: Final = 10.0
FIRST_PORT: Final = 40_000
PGBENCH_CLIENTS: Final = 16
PGBENCH_OVERTIME_S: Final = 30.0
SERVERS: Final = ("postgres", "rabbitmq")
DOUBLED: Final = ("reservations", "payments", "scheduler", "gateway")
GATEWAY: Final = "gateway"
# What one address may do: more than the load generator does. The limits are counted, and refuse nobody.
UNREACHED: Final = {"ADDRESS_CALLS_PER_S": "100000", "ADDRESS_BURST": "100000"}
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_TPS: Final = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_LATENCY: Final = re.compile(r"^latency average = ([0-9.]+) ms", re.MULTILINE)


class Spent(NamedTuple):
    """What a process and its children have used so far: CPU in seconds, memory in MB."""

    cpu_s: float
    resident_mb: float


@dataclass
class Subject:
    """Something that answers at `addresses`; `parts` are its processes, by name, each with all its children."""

    name: str
    addresses: Sequence[str]
    parts: Mapping[str, Sequence[int]]
    # With it the addresses are called by TLS: PEM of who must have vouched for GATEWAY.
    ca: str = ""
    _own: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def spent(self) -> dict[str, Spent]:
        """By part."""
        return {name: _spent(pids) for name, pids in self.parts.items()}

    def stop(self) -> None:
        """Ends those processes that were started for it alone."""
        for process in self._own:
            process.send_signal(signal.SIGTERM)
        for process in self._own:
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def ticketrush(stack: Stack) -> Subject:
    """The stack as it is deployed."""
    parts = {name: [_pid(stack, name)] for name in (*(service.name for service in SERVICES), *SERVERS)}
    return Subject(OURS, [stack.address("gateway")], parts)


@contextmanager
def second_of_each(stack: Stack) -> Iterator[Subject]:
    """The stack with a second one of each service that may be there twice, on the same servers."""
    # The card processor is the same: it keeps its own books.
    second = stack.twin("second", {"payments": {"PROVIDER_ADDRESS": stack.address("provider")}})
    try:
        second.up(DOUBLED)
        parts = {**ticketrush(stack).parts}
        for name in DOUBLED:
            parts[name] = [*parts[name], _pid(second, name)]
        yield Subject("two of each", [stack.address("gateway"), second.address("gateway")], parts)
    finally:
        second.clean()


@contextmanager
def gateways(stack: Stack) -> Iterator[tuple[Subject, Subject]]:
    """The stack behind a gateway that lets everybody in, and behind one that asks for tokens, by TLS, and limits."""
    cert, key, _ = certificate_files(stack.run_dir / "tls", GATEWAY)
    unasked = _behind(stack, "open", "", dict.fromkeys(("AUTH_JWKS", "AUTH_ISSUER", "AUTH_AUDIENCE"), ""))
    try:
        asked = _behind(
            stack,
            "guarded",
            (stack.run_dir / "tls" / GATEWAY / "ca.pem").read_text(),
            {"PUBLIC_TLS_CERT": str(cert), "PUBLIC_TLS_KEY": str(key), "LIMIT_LOOPBACK": "true", **UNREACHED},
        )
        try:
            yield unasked, asked
        finally:
            asked.stop()
    finally:
        unasked.stop()


def _behind(stack: Stack, name: str, ca: str, changed: Mapping[str, str]) -> Subject:
    """The stack behind another gateway, with other settings."""
    [service] = [one for one in SERVICES if one.name == GATEWAY]
    port = _free_port()
    own = {f"{SETTING_PREFIX}{setting}": value for setting, value in changed.items()}
    own |= {
        f"{SETTING_PREFIX}LISTEN_ADDRESS": f"{LOOPBACK}:{port}",
        f"{SETTING_PREFIX}METRICS_ADDRESS": f"{LOOPBACK}:0",
    }
    environment = os.environ | settings(service, stack.env) | own
    with (stack.run_dir / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", GATEWAY], env=environment, stdout=log, stderr=log)
    parts = {**ticketrush(stack).parts, GATEWAY: [process.pid]}
    return _started(Subject(name, [f"{LOOPBACK}:{port}"], parts, ca, [process]))


def baseline(stack: Stack, database_url: str, processes: int) -> Subject:
    """So many processes on a database of the stack's PostgreSQL."""
    port = _free_port()
    own = [_python("bench.baseline", port, DATABASE_URL=database_url) for _ in range(processes)]
    return _started(
        Subject(
            f"baseline x{processes}",
            [f"{LOOPBACK}:{port}"],
            {"baseline": [process.pid for process in own], "postgres": [_pid(stack, "postgres")]},
            _own=own,
        )
    )


def echo(processes: int) -> Subject:
    """So many processes that do nothing."""
    port = _free_port()
    own = [_python("bench.echo", port) for _ in range(processes)]
    return _started(
        Subject(f"echo x{processes}", [f"{LOOPBACK}:{port}"], {"echo": [process.pid for process in own]}, _own=own)
    )


def pgbench(database_url: str, sql: Path, seconds: float) -> tuple[float, float]:
    """Transactions a second of the statement in the file, and their mean latency in milliseconds."""
    binary = max(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    command = [binary, "--no-vacuum", f"--client={PGBENCH_CLIENTS}", f"--time={seconds:.0f}", f"--file={sql}"]
    done = subprocess.run(
        [*map(str, command), database_url],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + PGBENCH_OVERTIME_S,
    )
    tps, latency = _TPS.search(done.stdout), _LATENCY.search(done.stdout)
    if not tps or not latency:
        raise RuntimeError(f"pgbench said nothing of its speed:\n{done.stdout}")
    return float(tps[1]), float(latency[1])


def _python(module: str, port: int, **variables: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | variables | {"LISTEN_ADDRESS": f"{LOOPBACK}:{port}"}
    return subprocess.Popen([sys.executable, "-m", module], env=environment)


def _started(subject: Subject) -> Subject:
    port = int(subject.addresses[0].rpartition(":")[2])
    if not wait_until(lambda: accepts(port), START_DEADLINE_S):
        subject.stop()
        raise RuntimeError(f"{subject.name} does not listen on {subject.addresses[0]}")
    return subject


def _free_port() -> int:
    return next(port for port in range(FIRST_PORT, 2**16) if is_free(port))


def _pid(stack: Stack, name: str) -> int:
    pid = stack.pid(name)
    if pid is None:
        raise RuntimeError(f"{name} does not run")
    return pid


def _spent(pids: Sequence[int]) -> Spent:
    family, fields = set(pids), {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields[int(place.name)] = (place / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    while children := {pid for pid, stat in fields.items() if int(stat[1]) in family} - family:
        family |= children
    ticks = sum(int(tick) for pid in family if pid in fields for tick in fields[pid][11:15])
    pages = sum(int(fields[pid][21]) for pid in family if pid in fields)
    return Spent(ticks / _TICKS_PER_S, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
