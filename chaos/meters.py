"""Numbers that services and broker count, added up across restarts."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from chaos.system import SERVICE_NAMES, System
from deploy.broker import ask

INTERVAL_S: Final = 1.0
TIMEOUT_S: Final = 1.0
# The counters that tell of rare paths.
COUNTERS: Final = (
    "ticketrush_outbox_relayed_messages_total",
    "ticketrush_outcomes_asked_again_total",
    "ticketrush_amqp_acks_lost_total",
    "ticketrush_amqp_retried_envelopes_total",
    "ticketrush_amqp_transactions_repeated_total",
    "ticketrush_payments_unanswered_total",
    "ticketrush_gateway_commands_said_again_total",
)
REDELIVERED: Final = "redelivered"


class Meters:
    """Sums over all processes. What a killed process counted in its last INTERVAL_S is missed."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._last: dict[tuple[str, str], float] = {}
        self.sums: Counter[str] = Counter()

    async def run(self) -> None:
        """Reads until cancelled."""
        while True:
            await asyncio.to_thread(self.read)
            await asyncio.sleep(INTERVAL_S)

    def read(self) -> None:
        """Reads every page that answers."""
        for name in SERVICE_NAMES:
            url = f"http://{self._system.env[f'{name.upper()}_METRICS_ADDRESS']}/metrics"
            with suppress(URLError, OSError):
                for series, value in _series(_get(url)):
                    self._add(name, series, value)
        with suppress(URLError, OSError, ValueError):
            self._add("rabbitmq", REDELIVERED, _redelivered(self._system.env))

    def _add(self, process: str, series: str, value: float) -> None:
        last = self._last.get((process, series), 0.0)
        self._last[process, series] = value
        # A process that began again counts from nothing.
        self.sums[series.partition("{")[0]] += round(value - last if value >= last else value)


def _series(page: str) -> Iterator[tuple[str, float]]:
    for line in page.splitlines():
        if line.startswith(COUNTERS):
            series, _, value = line.rpartition(" ")
            yield series, float(value)


def _redelivered(env: Mapping[str, str]) -> float:
    path = "/api/queues?columns=name,message_stats.redeliver"
    queues = json.loads(ask(env["RABBITMQ_MANAGEMENT_URL"], env["AMQP_URL"], "GET", path))
    # Without any statistics yet it is an empty list.
    return float(sum((queue.get("message_stats") or {}).get("redeliver", 0) for queue in queues))


def _get(url: str) -> str:
    with urlopen(url, timeout=TIMEOUT_S) as answer:
        text: str = answer.read().decode()
        return text
