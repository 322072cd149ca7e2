"""The HTTP front of a stack: how its program is built, and how it is asked whether it is ready."""

import sys
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from deploy import golang
from deploy.errors import StackError

SOURCE: Final = Path(__file__).resolve().parent.parent / "frontend"
# Beside the packages: built once, whatever number of stacks use it.
PROGRAM: Final = Path(sys.prefix) / "frontend" / "ticketrush-frontend"


def build(say: Callable[[str], None] = lambda _: None) -> Path:
    """The program, built anew where its source has changed. Raises StackError."""
    try:
        return golang.build(SOURCE, PROGRAM, say)
    except golang.BuildError as error:
        raise StackError(str(error)) from error


def is_ready(address: str, timeout_s: float) -> bool:
    """Whether the one at HOST:PORT takes calls; False too if it does not answer in time."""
    connection = HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
