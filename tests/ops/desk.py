"""`ticketrush` as an operator types it: a process of its own, told by its environment where everything is."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

OPERATOR: Final = "night-shift"
TYPED_WITHIN_S: Final = 60
ENTRY: Final = "from cli.__main__ import app; app()"


@dataclass(frozen=True)
class Typed:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.out)


class Desk:
    """`places` are the lines of a stack.env."""

    def __init__(self, places: Mapping[str, str]) -> None:
        ours = {f"TICKETRUSH_{name}": value for name, value in places.items()}
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("TICKETRUSH_")} | ours

    def without(self, *places: str) -> "Desk":
        """A desk that is not told these."""
        desk = Desk({})
        named = {f"TICKETRUSH_{place}" for place in places}
        desk._environment = {k: v for k, v in self._environment.items() if k not in named}
        return desk

    async def type(self, *arguments: str) -> Typed:
        """Runs the command to its end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ENTRY, *arguments, env=self._environment, stdout=PIPE, stderr=PIPE, cwd="/"
        )
        async with asyncio.timeout(TYPED_WITHIN_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Typed(process.returncode, out.decode(), err.decode())

    async def look(self, *arguments: str) -> Any:
        """What a command that only looks answers, as JSON."""
        typed = await self.type(*arguments, "--json")
        assert typed.code == 0, typed
        return typed.answer

    async def change(self, *arguments: str, reason: str = "a drill") -> Typed:
        """Runs a command that changes something, as OPERATOR."""
        return await self.type(*arguments, "--reason", reason, "--operator", OPERATOR)
