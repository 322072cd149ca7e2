"""Where the services are: what the environment says, else what a local stack (`make up`) wrote down."""

import os
from pathlib import Path
from typing import Final

import typer

from chassis import addresses

GATEWAY_ADDRESS_DEFAULT: Final = "127.0.0.1:50051"
TOKEN_VARIABLE: Final = "TICKETRUSH_TOKEN"  # noqa: S105 # the name of the variable, not its value
_PREFIXES: Final = ("TICKETRUSH_", "")
_STACK_FILE: Final = Path(".run/stack.env")


def gateway_address() -> str:
    """HOST:PORT of the gateway. Raises typer.BadParameter as `address_of` does."""
    return address_of("GATEWAY") or GATEWAY_ADDRESS_DEFAULT


def address_of(service: str) -> str | None:
    """HOST:PORT of a service, by its name in capitals; None if nothing says.

    Raises typer.BadParameter, naming where it is said, when that is no address.
    """
    found = _find(f"{service}_ADDRESS")
    return host_and_port(found[0], said_by=f"{found[1]} says ") if found else None


def host_and_port(text: str, said_by: str = "") -> str:
    """The text, if a service can be called there: HOST:PORT, or [IPV6]:PORT. Raises typer.BadParameter."""
    try:
        addresses.host_and_port(text)
    except ValueError as error:
        raise typer.BadParameter(f"{said_by}{text!r}; it {error}") from error
    if text.rpartition(":")[2].strip("0") == "":
        raise typer.BadParameter(f"{said_by}{text!r}; it must be HOST:PORT, and nobody listens on port 0")
    return text


def told(variable: str) -> str | None:
    """What the environment, else the local stack's file, says under a name without prefix; None if nothing does."""
    found = _find(variable)
    return found[0] if found else None


def token_for(gateway: str) -> str:
    """The token to show to the gateway at HOST:PORT: the environment's, else the local stack's if it is its gateway.

    "" if there is none: nobody else's gateway is shown what opens the local stack.
    """
    if token := os.environ.get(TOKEN_VARIABLE):
        return token
    _, lines = _stack()
    return lines.get("OPERATOR_TOKEN", "") if lines.get("GATEWAY_ADDRESS") == gateway else ""


def told_by_environment(variable: str) -> str | None:
    """What the environment alone says under a name without prefix; None if it does not."""
    found = _find_in_environment(variable)
    return found[0] if found else None


def _find(variable: str) -> tuple[str, str] | None:
    """The value, and where it was found."""
    if found := _find_in_environment(variable):
        return found
    file, lines = _stack()
    return (lines[variable], f"{variable} in {file}") if lines.get(variable) else None


def _find_in_environment(variable: str) -> tuple[str, str] | None:
    for prefix in _PREFIXES:
        if value := os.environ.get(prefix + variable):
            return value, prefix + variable
    return None


def _stack() -> tuple[Path, dict[str, str]]:
    """The local stack's file and its lines, looked for here and in each folder above."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        file = folder / _STACK_FILE
        try:
            text = file.read_text()
        except FileNotFoundError:
            continue
        lines = (line.partition("=") for line in text.splitlines())
        return file, {key.strip(): value.strip().strip("'\"") for key, _, value in lines}
    return _STACK_FILE, {}
