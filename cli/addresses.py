"""Where the services are: what the environment says, else what a local stack (`make up`) wrote down."""

import os
from pathlib import Path
from typing import Final

GATEWAY_ADDRESS_DEFAULT: Final = "127.0.0.1:50051"
GATEWAY_VARIABLES: Final = ("TICKETRUSH_GATEWAY_ADDRESS", "GATEWAY_ADDRESS")
_STACK_FILE: Final = Path(".run/stack.env")


def gateway_address() -> str:
    """HOST:PORT of the gateway."""
    for name in GATEWAY_VARIABLES:
        if value := os.environ.get(name):
            return value
    return from_stack("GATEWAY_ADDRESS") or GATEWAY_ADDRESS_DEFAULT


def from_stack(name: str) -> str | None:
    """A variable of the local stack's file, looked for here and in each folder above; None if there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        try:
            text = (folder / _STACK_FILE).read_text()
        except FileNotFoundError:
            continue
        lines = (line.partition("=") for line in text.splitlines())
        return {key.strip(): value.strip().strip("'\"") for key, _, value in lines}.get(name)
    return None
