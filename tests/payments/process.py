"""`python -m payments` as a child, to stop or to kill."""

import asyncio
import json
import os
import sys
from typing import Any

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


class PaymentsProcess:
    """Started by `start`; `kill` is kill -9, `stop` is SIGTERM and must be over within STOP_TIMEOUT_S."""

    def __init__(self, **settings: str) -> None:
        self._environment = {
            **os.environ,
            "TICKETRUSH_LISTEN_ADDRESS": "127.0.0.1:0",
            "TICKETRUSH_METRICS_ADDRESS": "127.0.0.1:0",
            **{f"TICKETRUSH_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.address = ""
        self.lines: list[str] = []

    async def start(self) -> None:
        """Returns when it listens at `address`."""
        listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "payments", env=self._environment, stdout=asyncio.subprocess.PIPE
        )
        self._reader = asyncio.create_task(self._read(self._process, listening))
        async with asyncio.timeout(START_TIMEOUT_S):
            self.address = f"127.0.0.1:{await listening}"

    async def _read(self, process: asyncio.subprocess.Process, listening: "asyncio.Future[int]") -> None:
        assert process.stdout
        async for line in process.stdout:
            self.lines.append(line.decode())
            record: dict[str, Any] = json.loads(line)
            if record["message"] == "listening":
                listening.set_result(int(record["port"]))

    async def kill(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._ended()

    async def stop(self) -> int:
        """Its exit code."""
        assert self._process
        self._process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            return await self._ended()

    async def _ended(self) -> int:
        assert self._process
        assert self._reader
        await self._reader
        return await self._process.wait()
