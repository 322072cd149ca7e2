"""The lock that says who is the primary: nobody takes it back who has slept through it."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from deploy import debian
from deploy.ha import etcd, patroni
from deploy.ports import Ports
from deploy.services import LOOPBACK
from tests.e2e.office import eventually
from tests.observability.running import running

SLEEPER = Path(__file__).parent / "frozen_primary.py"
ANSWER_TIMEOUT_S = 10
ENDS_WITHIN_S = 60


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[str]:
    """The address of an etcd of its own."""
    program = await asyncio.to_thread(debian.program, etcd.Etcd.package, "etcd")
    ports = Ports(tmp_path).settle(["client", "peer"], [])
    client, peer = (f"http://{LOOPBACK}:{ports[name]}" for name in ("client", "peer"))
    command = [
        program, f"--data-dir={tmp_path / 'etcd'}",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
    ]  # fmt: skip
    log = tmp_path / "etcd.log"
    async with running(command, log), httpx.AsyncClient(base_url=client, trust_env=False) as asking:

        async def is_healthy() -> bool:
            try:
                return (await asking.get("/health", timeout=ANSWER_TIMEOUT_S)).is_success
            except httpx.TransportError:
                return False

        await eventually(is_healthy, lambda: f"no etcd answers:\n{log.read_text()}")
        yield f"{LOOPBACK}:{ports['client']}"


async def test_a_primary_that_slept_through_its_lock_does_not_take_it_from_the_other(
    keeper: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(debian.program, patroni.Patroni.package, patroni.DEBIANS)
    (python, *_), variables = patroni.program(tmp_path)
    told = await asyncio.to_thread(
        subprocess.run,
        [python, str(SLEEPER), keeper],
        env={"PATH": os.defpath, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=ENDS_WITHIN_S,
    )
    assert told.stdout.split() == ["False", "other"], told.stderr
