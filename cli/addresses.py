"""Where the services are: what the environment says, else what a local stack (`make up`) wrote down."""

import os
from pathlib import Path
from typing import Final

GATEWAY_ADDRESS_DEFAULT: Final = "127.0.0.1:50051"
_PREFIXES: Final = ("TICKETRUSH_", "")
_STACK_FILE: Final = Path(".run/stack.env")


def gateway_address() -> str:
    """HOST:PORT of the gateway."""
    return address_of("GATEWAY") or GATEWAY_ADDRESS_DEFAULT


def address_of(service: str) -> str | None:
    """HOST:PORT of a service, by its name in capitals; None if nothing says."""
    return told(f"{service}_ADDRESS")


def told(variable: str) -> str | None:
    """What the environment, else the local stack's file, says under a name without prefix; None if nothing does."""
    for prefix in _PREFIXES:
        if value := os.environ.get(prefix + variable):
            return value
    return _stack().get(variable)


def _stack() -> dict[str, str]:
    """The lines of the local stack's file, looked for here and in each folder above."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        try:
            text = (folder / _STACK_FILE).read_text()
        except FileNotFoundError:
            continue
        lines = (line.partition("=") for line in text.splitlines())
        return {key.strip(): value.strip().strip("'\"") for key, _, value in lines}
    return {}
