"""Plays the demo: `python -m cli.demo`. Exit code 0 only if every scene ended as promised and the books agree."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Final

import grpc
import typer
from rich.console import Console
from rich.markup import escape

from chassis.bearer import bearing
from cli import addresses, show
from cli.demo import curtain, scenes
from cli.demo.box_office import BoxOffice
from cli.demo.narrator import Narrator
from cli.demo.patience import Patience, SceneFailed
from cli.demo.summary import read_back
from cli.failures import USAGE

EXIT_CODE_FAILED: Final = 1
EXIT_CODE_INTERRUPTED: Final = 130
# A gateway that comes back should be noticed within a second.
_CHANNEL_OPTIONS: Final = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 1_000))


async def play(console: Console, address: str) -> bool:
    """Plays against the gateway at HOST:PORT; whether the books agree in the end. Raises SceneFailed, or a group."""
    line = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
    async with bearing(line, addresses.token_for(address)) as channel:
        with Narrator(console) as narrator:
            office = BoxOffice.at(channel, narrator, Patience(narrator))
            # The scenes with long waits begin first and run beside the others.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(scenes.late_payment(office))
                tasks.create_task(scenes.expiry(office))
                event = await scenes.opening(office)
                await scenes.race(office, event)
                await scenes.decline(office, event)
                await scenes.organiser_refund(office, event)
            summary = await read_back(office)
        curtain.draw(console, summary)
        curtain.what_next(console, address, event.event_id)
        return summary.agrees()


def _failures(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _failures(inner)
    else:
        yield error


def main() -> int:
    """Plays on standard output; the exit code."""
    console = show.console()
    code = 0
    try:
        if not asyncio.run(play(console, addresses.gateway_address())):
            code = EXIT_CODE_FAILED
    except* SceneFailed as group:
        for failure in _failures(group):
            console.print(f"[bold red]The demo failed:[/] {escape(str(failure))}", highlight=False)
        code = EXIT_CODE_FAILED
    except* typer.BadParameter as group:
        for wrong in _failures(group):
            console.print(f"[bold red]The demo cannot be played:[/] {escape(str(wrong))}", highlight=False)
        code = USAGE
    except* KeyboardInterrupt:
        code = EXIT_CODE_INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
