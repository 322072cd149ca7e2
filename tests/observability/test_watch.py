"""`make watch` shows a stack that runs, and leaves nothing behind however it ends."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT

import httpx
import pytest

from deploy.ha.table import BROKERS, INSTANCES
from deploy.prometheus import QUEUES, of_stack
from deploy.services import PROCESSES, SETTING_PREFIX
from tests.e2e.house import House
from tests.e2e.office import eventually
from tests.observability.prometheus import ANSWER_TIMEOUT_S, Prometheus

BEGUN_WITHIN_S = 60.0
INTERRUPTED = 130


@pytest.mark.parametrize(
    ("end", "exit_code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)], ids=["ctrl-c", "kill-9"]
)
async def test_it_looks_at_every_part_and_all_of_it_ends(house: House, end: signal.Signals, exit_code: int) -> None:
    run_dir = house.stack.run_dir
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy", "watch",
        stdout=PIPE, stderr=STDOUT, env=os.environ | {f"{SETTING_PREFIX}RUN_DIR": str(run_dir)},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(BEGUN_WITHIN_S):
            said = (await process.stdout.readline()).decode()
        address = re.search(r"http://[0-9.:]+", said)
        assert address, said
        async with httpx.AsyncClient(base_url=address[0], timeout=ANSWER_TIMEOUT_S, trust_env=False) as client:
            looking = Prometheus(client)

            # Once it says where it is, it answers.
            async def all_are_up() -> bool:
                up = {one["metric"]["job"]: one["value"][1] for one in await looking.query("up")}
                # Its broker is somebody else's.
                return up == {service.name: "1" for service in PROCESSES} | {"postgres": "1"}

            async def all_rules_hold() -> bool:
                return {rule["health"] for rule in await looking.rules()} == {"ok"}

            await eventually(all_are_up)
            await eventually(all_rules_hold)
    finally:
        process.send_signal(end)
        async with asyncio.timeout(BEGUN_WITHIN_S):
            assert await process.wait() == exit_code
    async with httpx.AsyncClient(base_url=address[0], trust_env=False) as client:

        async def is_gone() -> bool:
            try:
                await client.get("/-/ready")
            except httpx.ConnectError:
                return True
            except httpx.TransportError:
                return False
            return False

        # Killed, it can wait for nobody.
        await eventually(is_gone)


def test_of_several_it_asks_each() -> None:
    facts = {service.metrics_address: f"{service.name}:1" for service in PROCESSES}
    facts |= {f"{one.name.upper().replace('-', '_')}_METRICS_ADDRESS": f"{one.name}:1" for one in INSTANCES}
    facts |= {f"{name.upper().replace('-', '_')}_METRICS_ADDRESS": f"{name}:1" for name in BROKERS}
    pages = of_stack(facts, "exporter:1")
    assert pages["gateway"] == ["gateway-a:1", "gateway-b:1"]
    assert pages["provider"] == ["provider:1"]
    assert pages["rabbitmq"] == ["broker-1:1", "broker-2:1", "broker-3:1"]
    assert pages[QUEUES] == ["broker-1:1"]
    assert pages["postgres"] == ["exporter:1"]
