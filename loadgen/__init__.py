"""The load generator: a small Go program that makes calls as they are due, and this side of it."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import grpc

from deploy import golang

SOURCE: Final = Path(__file__).parent
END_TIMEOUT_S: Final = 120

_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
_LENGTH: Final = struct.Struct("<I")
# As `record` in main.go.
_RECORD: Final = struct.Struct("<IIdddI")


class LoadError(Exception):
    """The load generator did not end well; says what it said."""


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
    """The program, built anew where its source has changed. Raises BuildError."""
    return golang.build(SOURCE, target)


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
