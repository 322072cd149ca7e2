"""How a tool ends at the terminal: what it could not do in one line, with an exit code for scripts."""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Any, Final, NoReturn, TypeVar

import grpc.aio
import psycopg
import typer
from psycopg_pool import PoolTimeout, TooManyRequests
from rich.console import Console
from rich.text import Text

from chassis.publisher import PublishError
from cli.failures import REFUSED, UNAVAILABLE
from cli.printable import printable

Answer = TypeVar("Answer")

PIPE_WIDTH: Final = 200
"""Columns where there is no terminal: ids stay whole on their line."""


class Refused(Exception):
    """Understood, and not done: the message says why, and what to do instead."""


class CouldNot(Exception):
    """Something that is needed does not answer: the same command may work later."""


_DOES_NOT_ANSWER: Final = (psycopg.Error, PoolTimeout, TooManyRequests, PublishError)


def run(job: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs a tool's work; what it could not do ends the command with REFUSED or UNAVAILABLE."""
    # What the pool and the connections have to say about a server that is away is said once, below.
    logging.getLogger().setLevel(logging.CRITICAL)
    try:
        return asyncio.run(job)
    except Refused as refusal:
        end(str(refusal), REFUSED)
    except CouldNot as problem:
        end(str(problem), UNAVAILABLE)
    except grpc.aio.AioRpcError as error:
        end(f"no answer: {error.code().name}: {error.details()}", UNAVAILABLE)
    except _DOES_NOT_ANSWER as error:
        end(f"no answer: {type(error).__name__}: {error}", UNAVAILABLE)


def end(message: str, code: int) -> NoReturn:
    """Ends the command with one line on standard error."""
    sys.stderr.write(printable(" ".join(message.split())) + "\n")
    raise typer.Exit(code)


def console() -> Console:
    """Standard output, as wide as the terminal or as a line should be in a pipe."""
    probe = Console()
    return probe if probe.is_terminal else Console(width=PIPE_WIDTH)


def words(text: str, style: str = "") -> Text:
    """What others wrote, for a cell: it does nothing to the terminal."""
    return Text(printable(text), style=style)


def notes() -> Console:
    """Standard error, for progress: JSON on standard output stays whole."""
    return Console(stderr=True)
