"""Programs that look on, as processes of a test's own."""

import asyncio
import os
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

STOP_WITHIN_S: Final = 10


@asynccontextmanager
async def running(
    command: Sequence[str], log: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Process]:
    """Runs it until the block ends; what it says goes to the log."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=output, stderr=output, env={**os.environ, **variables}
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
