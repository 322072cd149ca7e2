"""What the operator types in the drill: the same commands, each its own process, with an operator's rights only."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

TYPED_WITHIN_S: Final = 300.0
OPERATOR: Final = "drill"
_ENTRY: Final = "from cli.__main__ import app; app()"
# Those of the administrator.
_NOT_THE_OPERATORS: Final = frozenset({"DATABASE_URL", "AMQP_URL"})


@dataclass(frozen=True)
class Typed:
    """How a command ended."""

    line: str
    code: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.out)


class Desk:
    """Where `ticketrush` is typed; `places` are the lines of a stack.env."""

    def __init__(self, places: Mapping[str, str]) -> None:
        ours = {f"TICKETRUSH_{name}": value for name, value in places.items() if name not in _NOT_THE_OPERATORS}
        others = {name: value for name, value in os.environ.items() if not name.startswith("TICKETRUSH_")}
        self._environment = others | ours | {"TICKETRUSH_TOKEN": places["OPERATOR_TOKEN"]}
        for name in _NOT_THE_OPERATORS:
            self._environment.pop(name, None)

    async def type(self, *arguments: str) -> Typed:
        """Runs a command to its end. Raises TimeoutError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _ENTRY, *arguments, env=self._environment, stdout=PIPE, stderr=PIPE
        )
        try:
            async with asyncio.timeout(TYPED_WITHIN_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Typed(" ".join(arguments), process.returncode or 0, out.decode(), err.decode())
