"""Debian's Prometheus, at work on the pages of a stack of ours and of its servers."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from deploy.facts import RABBITMQ_METRICS_ADDRESS
from deploy.ports import Ports
from deploy.prometheus import command, of_stack, scrapes
from deploy.services import LOOPBACK
from deploy.stack import Stack
from tests.e2e.office import eventually
from tests.observability.rules import hurried
from tests.observability.running import running

ANSWER_TIMEOUT_S: Final = 10


@dataclass(frozen=True)
class Broker:
    """Where RabbitMQ shows its numbers, and the one virtual host that is looked at."""

    metrics_address: str
    vhost: str


@dataclass(frozen=True)
class Prometheus:
    """One that answers."""

    client: httpx.AsyncClient

    async def query(self, expr: str) -> list[Any]:
        """The series that an expression gives now."""
        answer = await self.client.get("/api/v1/query", params={"query": expr})
        answer.raise_for_status()
        found: list[Any] = answer.json()["data"]["result"]
        return found

    async def numbers(self, expr: str) -> list[float]:
        """What is behind an expression now; what is no number (0/0) is nothing."""
        values = [float(series["value"][1]) for series in await self.query(expr)]
        return [value for value in values if not math.isnan(value)]

    async def rules(self) -> list[Any]:
        """Every rule as it was last evaluated."""
        answer = await self.client.get("/api/v1/rules")
        answer.raise_for_status()
        return [rule for group in answer.json()["data"]["groups"] for rule in group["rules"]]

    async def firing(self) -> dict[str, str]:
        """The alerts that fire now, each with the labels of one of those that do."""
        series = await self.query('ALERTS{alertstate="firing"}')
        return {one["metric"]["alertname"]: str(one["metric"]) for one in series}


@asynccontextmanager
async def looking_at(
    stack: Stack, folder: Path, *, broker: Broker, database: str, hurry: int = 1
) -> AsyncIterator[Prometheus]:
    """A Prometheus of its own, with its data in the folder. Its rules are ours, `hurry` times as quick."""
    config, rules, log = folder / "prometheus.yml", folder / "alerts.yml", folder / "prometheus.log"
    rules.write_text(hurried(hurry))
    facts = {**stack.env, RABBITMQ_METRICS_ADDRESS: broker.metrics_address}
    config.write_text(scrapes(of_stack(facts, database), interval_s=1, rules=str(rules), vhost=broker.vhost))
    address = f"{LOOPBACK}:{Ports(folder).settle(['prometheus'], [])['prometheus']}"
    async with (
        running(await asyncio.to_thread(command, config, folder / "data", address), log) as process,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=ANSWER_TIMEOUT_S, trust_env=False) as client,
    ):

        async def is_ready() -> bool:
            assert process.returncode is None, log.read_text()
            try:
                return (await client.get("/-/ready")).is_success
            except httpx.TransportError:
                return False

        await eventually(is_ready, lambda: f"Prometheus is not ready:\n{log.read_text()}")
        yield Prometheus(client)
