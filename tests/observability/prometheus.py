"""Debian's Prometheus, at work on the pages of a stack of ours."""

import asyncio
import json
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from deploy.ports import Ports
from deploy.services import LOOPBACK, PROCESSES
from deploy.stack import Stack
from tests.debian import program
from tests.e2e.office import eventually
from tests.observability.rules import ALERTS, SCRAPES, load

STOP_WITHIN_S: Final = 10
ANSWER_TIMEOUT_S: Final = 10


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

    async def firing(self) -> set[str]:
        """The alerts that fire now."""
        return {series["metric"]["alertname"] for series in await self.query('ALERTS{alertstate="firing"}')}


def configuration(stack: Stack) -> Mapping[str, Any]:
    """Ours, asking the services of this stack once a second instead, and none of the exporters."""
    written = load(SCRAPES)
    pages = {service.name: stack.env[service.metrics_address] for service in PROCESSES}
    jobs = [
        job | {"static_configs": [{"targets": [pages[job["job_name"]]]}]}
        for job in written["scrape_configs"]
        if job["job_name"] in pages
    ]
    assert len(jobs) == len(pages)
    often = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    return {"global": often, "rule_files": [str(ALERTS)], "scrape_configs": jobs}


@asynccontextmanager
async def looking_at(stack: Stack, folder: Path) -> AsyncIterator[Prometheus]:
    """A Prometheus of its own, with its data in the folder."""
    config = folder / "prometheus.yml"
    config.write_text(json.dumps(configuration(stack)))
    address = f"{LOOPBACK}:{Ports(folder).settle(['prometheus'], [])['prometheus']}"
    log = folder / "prometheus.log"
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    binary = await asyncio.to_thread(program, "prometheus", "prometheus")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(binary, *arguments, stdin=DEVNULL, stdout=output, stderr=output)
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=ANSWER_TIMEOUT_S, trust_env=False) as client:

            async def is_ready() -> bool:
                assert process.returncode is None, log.read_text()
                try:
                    return (await client.get("/-/ready")).is_success
                except httpx.TransportError:
                    return False

            await eventually(is_ready, lambda: f"Prometheus is not ready:\n{log.read_text()}")
            yield Prometheus(client)
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
