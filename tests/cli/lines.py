"""Lines that documents tell people to type, held against the command."""

from typing import Any

from typer.main import get_command

from cli.__main__ import app


def unknown_options(line: str) -> set[str]:
    """Those that the command does not have. `line` is without `ticketrush`; fails if there is no such command."""
    command: Any = get_command(app)
    command.list_commands(None)  # fetches the operators' too
    words = line.split()
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    return {word for word in words if word.startswith("--")} - known
