"""A service that ends at a point, and is started again each time, as an orchestrator would."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from deploy.services import LOOPBACK, SERVICES, SETTING_PREFIX, settings
from deploy.stack import Stack
from tests.e2e.office import eventually

ROOT: Final = Path(__file__).parents[2]
ENDS_MAX: Final = 150
LOG_TAIL_CHARACTERS: Final = 4_000


class Victim:
    """One service of a stack, run by us. With `point` "" it only counts. `ended` is awaited after each end."""

    def __init__(
        self, stack: Stack, name: str, *, point: str, memory: Path, ended: Callable[[], Awaitable[None]]
    ) -> None:
        [service] = [service for service in SERVICES if service.name == name]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(SETTING_PREFIX)}
        self.name = name
        self.point = point
        self.memory = memory
        self.ends = 0
        self._log = stack.run_dir / f"{name}-{point or 'counting'}.log"
        self._stack = stack
        self._environment = inherited | {"no_grpc_proxy": LOOPBACK} | settings(service, stack.env)
        self._ended = ended
        self._process: asyncio.subprocess.Process | None = None

    async def live(self) -> None:
        """One life after the other, until `stop`. Fails when one ends in another way than at the point."""
        at = ["--at", self.point] if self.point else []
        command = [sys.executable, "-m", "tests.proof.crashing", self.name, *at, "--memory", str(self.memory)]
        with self._log.open("ab") as log:
            process = self._process = await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, env=self._environment, stdout=asyncio.subprocess.PIPE, stderr=log, process_group=0
            )
        try:
            assert process.stdout
            async for _ in process.stdout:
                self.ends += 1
                assert self.ends < ENDS_MAX, f"{self.name} comes to {self.point} again and again"
                await self._ended()
            code = await process.wait()
            assert code == 0, f"{self.name}: {code}\n{self.log_tail()}"
        finally:
            # It and its child, if they are still there.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def serves(self) -> None:
        """Returns when it does."""

        async def says_so() -> bool:
            return await asyncio.to_thread(self._stack.is_serving, self.name)

        await eventually(says_so, lambda: f"{self.name} does not serve:\n{self.log_tail()}")

    def stop(self) -> None:
        """Asks it to stop; `live` ends then."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def log_tail(self) -> str:
        return self._log.read_text()[-LOG_TAIL_CHARACTERS:]
