"""What Prometheus asks, and whom: in the containers of docker-compose.yml, or on the stack that runs here.

`python -m deploy.prometheus` writes deploy/observability/prometheus.yml; `make watch` runs Debian's Prometheus.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from psycopg.conninfo import conninfo_to_dict

from deploy.debian import program
from deploy.errors import StackError
from deploy.facts import RABBITMQ_METRICS_ADDRESS
from deploy.ha.table import BROKERS, INSTANCES
from deploy.ports import Ports
from deploy.process import wait_until
from deploy.services import LOOPBACK, PROCESSES

FOLDER: Final = Path(__file__).parent / "observability"
ALERTS: Final = FOLDER / "alerts.yml"
PORT: Final = 9090
"""As Prometheus itself has it; where it is taken, another."""
POSTGRES, QUEUES = "postgres", "rabbitmq-queues"
EXPORTER: Final = "prometheus-postgres-exporter"
POLL_INTERVAL_S: Final = 0.5
READY_WITHIN_S: Final = 30.0
STOP_WITHIN_S: Final = 10.0
_ANSWER_TIMEOUT_S: Final = 2.0
# The broker's other page has only their sums.
_BY_QUEUE: Final = """\
    metrics_path: /metrics/detailed
    params:
      family: [queue_coarse_metrics, queue_consumer_count]
"""

Pages = Mapping[str, Sequence[str]]
"""Job -> the addresses, HOST:PORT, of the pages that it reads."""


def scrapes(pages: Pages, *, interval_s: int = 5, rules: str = "alerts.yml", vhost: str = "") -> str:
    """The text of prometheus.yml. With a virtual host the broker's queues are those in it, else all."""
    text = (
        f"global:\n  scrape_interval: {interval_s}s\n  evaluation_interval: {interval_s}s\n\n"
        f"rule_files: [{rules}]\n\nscrape_configs:\n"
    )
    for job, addresses in pages.items():
        text += f"  - job_name: {job}\n"
        if job == QUEUES:
            text += _BY_QUEUE + (f'      vhost: ["{vhost}"]\n' if vhost else "")
        named = ", ".join(f'"{address}"' for address in addresses)
        text += f"    static_configs: [{{targets: [{named}]}}]\n"
    return text


def in_containers() -> Pages:
    """The pages of docker-compose.yml, by the names that its network gives them."""
    pages = {service.name: [f"{service.name}:{service.metrics_port}"] for service in PROCESSES}
    return {**pages, **_of_brokers(["rabbitmq:15692"]), POSTGRES: ["postgres-exporter:9187"]}


def of_stack(facts: Mapping[str, str], exporter: str) -> Pages:
    """The pages of a stack, of one or several of each, by the lines of its stack.env; `exporter` is PostgreSQL's.

    A broker that somebody else runs is left out.
    """
    pages: dict[str, list[str]] = {}
    for service in PROCESSES:
        several = _pages(facts, (one.name for one in INSTANCES if one.service == service))
        pages[service.name] = several or [facts[service.metrics_address]]
    brokers = _pages(facts, BROKERS) or [facts[name] for name in (RABBITMQ_METRICS_ADDRESS,) if name in facts]
    return {**pages, **_of_brokers(brokers), POSTGRES: [exporter]}


def _pages(facts: Mapping[str, str], names: Iterable[str]) -> list[str]:
    known = (facts.get(f"{name.upper().replace('-', '_')}_METRICS_ADDRESS") for name in names)
    return [address for address in known if address]


def _of_brokers(addresses: Sequence[str]) -> Pages:
    # What one node says of the queues holds for all of them.
    return {"rabbitmq": addresses, QUEUES: addresses[:1]} if addresses else {}


def exporter_command(database_url: str, address: str) -> tuple[list[str], Mapping[str, str]]:
    """Debian's postgres_exporter on this database, and the environment that it needs."""
    parts = conninfo_to_dict(database_url)
    source = {
        "DATA_SOURCE_URI": f"{parts['host']}:{parts['port']}/{parts['dbname']}?sslmode=disable",
        "DATA_SOURCE_USER": str(parts["user"]),
        "DATA_SOURCE_PASS": str(parts["password"]),
    }
    return [program(EXPORTER, EXPORTER), f"--web.listen-address={address}"], source


def command(config: Path, data: Path, address: str) -> list[str]:
    """Debian's Prometheus."""
    return [
        program("prometheus", "prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address={address}",
    ]


def watch(run_dir: Path, facts: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Looks at the stack until interrupted, and says where once it answers.

    Raises StackError when Prometheus does not become ready, or it or the exporter ends by itself.
    """
    folder = run_dir / "watch"
    folder.mkdir(parents=True, exist_ok=True)
    ports = Ports(folder).settle(["prometheus", EXPORTER], [], {"prometheus": PORT})
    address, exporter = (f"{LOOPBACK}:{ports[name]}" for name in ("prometheus", EXPORTER))
    config = folder / "prometheus.yml"
    config.write_text(scrapes(of_stack(facts, exporter), rules=str(ALERTS)))
    with (
        _running(*exporter_command(facts["DATABASE_URL"], exporter), folder / f"{EXPORTER}.log") as looks_at_database,
        _running(command(config, folder / "data", address), {}, folder / "prometheus.log") as prometheus,
    ):

        def has_ended() -> bool:
            return looks_at_database.poll() is not None or prometheus.poll() is not None

        if not wait_until(lambda: has_ended() or _is_ready(address), READY_WITHIN_S):
            raise StackError(f"Prometheus is not ready after {READY_WITHIN_S:.0f} s; its log is in {folder}")
        if not has_ended():
            say(f"Prometheus is at http://{address} (what fires: http://{address}/alerts); Ctrl-C ends it")
        while not has_ended():
            time.sleep(POLL_INTERVAL_S)
        raise StackError(f"Prometheus or its exporter has ended; their logs are in {folder}")


def _is_ready(address: str) -> bool:
    """Whether it answers questions: it listens for a while before."""
    connection = HTTPConnection(address, timeout=_ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def _running(argv: Sequence[str], variables: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            # It ends when we do, also by kill -9.
            ["setpriv", "--pdeathsig=TERM", "--", *argv],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **variables},
            # Ctrl-C is for us, who then end it.
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_WITHIN_S)


def main() -> None:
    """Writes the file for docker-compose.yml."""
    (FOLDER / "prometheus.yml").write_text(written())


def written() -> str:
    """The text of that file."""
    return (
        "# What Prometheus asks in the containers of docker-compose.yml (profile `obs`), job by service.\n"
        f"# Made from deploy/prometheus.py by `make dashboards`.\n{scrapes(in_containers())}"
    )


if __name__ == "__main__":
    main()
