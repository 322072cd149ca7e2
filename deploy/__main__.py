"""The commands of the stack: `python -m deploy up|down|status|logs|migrate|clean`, most also a make target."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, TypedDict

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from chassis.topology import SHARDS_MAX
from deploy import broker, compose, environment, prometheus
from deploy.errors import StackError
from deploy.facts import External
from deploy.ha import status as several
from deploy.ha.stack import HaStack, is_of_several
from deploy.ha.table import NAMES as NAMES_OF_SEVERAL
from deploy.migrate import migrate as migrate_database
from deploy.migrate import skip_numbers
from deploy.services import (
    BROKER_USERS,
    GATEWAY_PORT,
    HTTP_PORT,
    NAMES,
    PROCESSES,
    SETTING_PREFIX,
    SHARDS,
    SHARDS_DEFAULT,
    TLS_DIR,
    TLS_SETTINGS,
)
from deploy.stack import BACKUP_DIR, GATEWAY_PORT_VARIABLE, HTTP_PORT_VARIABLE, Stack
from deploy.status import statuses

RUN_DIR_VARIABLE: Final = f"{SETTING_PREFIX}RUN_DIR"
SHARDS_VARIABLE: Final = f"{SETTING_PREFIX}{SHARDS}"
_ROOT: Final = Path(__file__).resolve().parent.parent
_LOG_LINES: Final = 50
# Each names a server that somebody else runs.
_SERVERS_OF_OTHERS: Final = ("DATABASE_URL", "AMQP_URL", "RABBITMQ_MANAGEMENT_URL")
# As a shell says of a program that Ctrl-C ended.
_INTERRUPTED: Final = 130
# As the Linux Standard Base has it: not running. Other errors are 1.
_NOT_READY: Final = 3
_FILE_COLUMNS: Final = 120
TIME_FORMATS: Final = [f"%Y-%m-%d{between}%H:%M:%S{end}" for between in " T" for end in ("", "%z", ".%f%z")]

app = typer.Typer(help="The local TicketRush stack.", no_args_is_help=True, add_completion=False)
console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)


@app.command()
def up() -> None:
    """Start what does not run, and wait until all of it is ready."""
    with _told(), console.status("Bringing up the stack ..."):
        if _by_compose():
            compose.up(_run_dir(), _say)
        else:
            _refuse_beside(_several(), NAMES_OF_SEVERAL)
            _stack().up()
    _show()


@app.command()
def up_ha() -> None:
    """The same with several of everything, so that any one process may die: start what does not run."""
    with _told(), console.status("Bringing up several of everything ..."):
        taken = [name for name in (*_SERVERS_OF_OTHERS, "RUNTIME") if os.environ.get(name)]
        if taken:
            raise StackError(f"several of everything bring their own servers; unset {' and '.join(taken)}")
        _refuse_beside(_stack(), NAMES)
        stack = _several()
        stack.up()
        # Where people and their tools look.
        environment.write(_run_dir() / "stack.env", stack.env)
    _show()


@app.command()
def down() -> None:
    """Stop everything; the data stays."""
    with _told(), console.status("Stopping the stack ..."):
        if _by_compose():
            compose.down(_say)
        else:
            _current().down()


@app.command()
def status() -> None:
    """Show what runs, and where; exits with 3 unless all of it is ready."""
    if not _show():
        raise typer.Exit(_NOT_READY)


@app.command()
def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Of which parts: {', '.join(NAMES)}. All by default.")
    ] = None,
    follow: Annotated[bool | None, typer.Option(help="Go on until Ctrl-C; the default on a terminal.")] = None,
) -> None:
    """Show the ends of the logs."""
    parts = NAMES_OF_SEVERAL if _is_of_several() else NAMES
    names = names or list(parts)
    if unknown := set(names) - set(parts):
        raise typer.BadParameter(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    follow = sys.stdout.isatty() if follow is None else follow
    with _told():
        if _by_compose():
            compose.logs(names, follow=follow, lines=_LOG_LINES)
        files = [str(file) for file in map(_current().log, names) if file.exists()]
        if not files:
            raise StackError("there are no logs yet; start the stack with: make up")
    sys.stdout.flush()
    os.execvp("tail", ["tail", f"--lines={_LOG_LINES}", *(["--follow=name"] if follow else []), *files])


@app.command()
def watch() -> None:
    """Run Debian's Prometheus on the stack that runs, with our alerts, until Ctrl-C."""
    with _told():
        if not (facts := environment.read(_run_dir() / "stack.env")):
            raise StackError("nothing was started yet; start the stack with: make up")
        try:
            prometheus.watch(_run_dir(), facts, _say)
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None


@app.command()
def migrate() -> None:
    """Make roles, schemas and tables in the database at DATABASE_URL, with the passwords in the environment.

    And users and queues in the broker at AMQP_URL, where RABBITMQ_MANAGEMENT_URL says how.
    """
    with _told():
        url = _database_url()
        passwords = {name: os.environ.get(name, "") for name in environment.PASSWORD_VARIABLES}
        if not asyncio.run(migrate_database(url, passwords, _say)):
            return
        if (page := os.environ.get("RABBITMQ_MANAGEMENT_URL")) and (amqp_url := os.environ.get("AMQP_URL")):
            broker.furnish(page, amqp_url, passwords, shards=_shards())


@app.command()
def backup() -> None:
    """Make a whole copy of the private database, in TICKETRUSH_BACKUP_DIR as it was when it was started."""
    with _told(), console.status("Copying the database ..."):
        _say(f"the database is copied to {_stack().back_up()}")


@app.command()
def restore(
    instant: Annotated[
        datetime | None, typer.Argument(metavar="TIME", formats=TIME_FORMATS, help="Without a zone: local time.")
    ] = None,
    *,
    latest: Annotated[bool, typer.Option("--latest", help="Instead of a TIME: as late as can be.")] = False,
) -> None:
    """Stop everything, and bring the private database back as it was at a time; see docs/operations.md first."""
    if latest == bool(instant):
        raise typer.BadParameter("name a TIME, or --latest")
    with _told(), console.status("Restoring the database ..."):
        _stack().restore(instant.astimezone() if instant else None)


@app.command()
def restored() -> None:
    """Once after the database at DATABASE_URL was restored by other means, before any service: skip used numbers."""
    with _told():
        asyncio.run(skip_numbers(_database_url()))


@app.command()
def definitions() -> None:
    """Print the broker's definitions with the passwords in the environment, for an empty broker to load."""
    with _told():
        passwords = {name: os.environ.get(name, "") for name in environment.PASSWORD_VARIABLES}
        if missing := [user.password_variable for user in BROKER_USERS if not passwords[user.password_variable]]:
            raise StackError(f"these are not set: {', '.join(missing)}")
        sys.stdout.write(json.dumps(broker.filled(passwords, shards=_shards())) + "\n")


@app.command()
def clean() -> None:
    """Stop everything and remove its data."""
    with _told():
        if _by_compose():
            compose.clean(_say)
        else:
            _several().clean()
            if _is_of_several():
                (_run_dir() / "stack.env").unlink()
            _stack().clean()


def _database_url() -> str:
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise StackError("DATABASE_URL is not set")
    return url


def _stack() -> Stack:
    """The stack of one of each, as the environment asks for it."""
    others = External(*(os.environ.get(name) for name in _SERVERS_OF_OTHERS))
    backups = os.environ.get(f"{SETTING_PREFIX}{BACKUP_DIR}")
    return Stack(_run_dir(), external=others, backup_dir=Path(backups) if backups else None, **_asked_for())


def _several() -> HaStack:
    """The stack of several, likewise. It has a folder of its own, with other data."""
    return HaStack(_run_dir() / "ha", **_asked_for())


def _current() -> Stack | HaStack:
    """The one that was started last."""
    return _several() if _is_of_several() else _stack()


def _is_of_several() -> bool:
    return is_of_several(environment.read(_run_dir() / "stack.env"))


def _refuse_beside(other: Stack | HaStack, names: Sequence[str]) -> None:
    """A stack is one or the other: both would be at the same address."""
    if any(other.pid(name) for name in names):
        raise StackError("the other kind of stack runs here; stop it first: make down")


class _AskedFor(TypedDict):
    gateway_port: int
    http_port: int
    http_port_preferred: int | None
    settings: Mapping[str, Mapping[str, str]]
    shards: int
    say: Callable[[str], None]


def _asked_for() -> _AskedFor:
    """What the environment asks for; every service gets the TICKETRUSH_* variables that we do not set."""
    ours = {variable.removeprefix(SETTING_PREFIX) for variable in (GATEWAY_PORT_VARIABLE, HTTP_PORT_VARIABLE)}
    ours |= {"RUN_DIR", BACKUP_DIR, "LISTEN_ADDRESS", "METRICS_ADDRESS", TLS_DIR, *TLS_SETTINGS}
    # TOKEN is that of whoever types commands here.
    ours |= {"TOKEN", *(setting for service in PROCESSES for setting in service.settings)}
    ours |= {name.removeprefix(SETTING_PREFIX) for name in environment.PASSWORD_VARIABLES}
    given = {
        name.removeprefix(SETTING_PREFIX): value
        for name, value in os.environ.items()
        if name.startswith(SETTING_PREFIX)
    }
    common = {name: value for name, value in given.items() if name not in ours}
    return _AskedFor(
        gateway_port=_port(GATEWAY_PORT_VARIABLE, GATEWAY_PORT),
        http_port=_port(HTTP_PORT_VARIABLE, 0),
        # Many programs like this one: where nobody says which, another will do.
        http_port_preferred=None if os.environ.get(HTTP_PORT_VARIABLE) else HTTP_PORT,
        settings={service.name: common for service in PROCESSES},
        shards=_shards(),
        say=_say,
    )


def _run_dir() -> Path:
    return Path(os.environ.get(RUN_DIR_VARIABLE) or _ROOT / ".run")


def _port(variable: str, usual: int) -> int:
    text = os.environ.get(variable) or str(usual)
    if not (text.isdigit() and int(text) <= 65_535):
        raise StackError(f"{variable} must be a port, or 0 for a free one, not {text!r}")
    return int(text)


def _shards() -> int:
    text = os.environ.get(SHARDS_VARIABLE) or str(SHARDS_DEFAULT)
    if not (text.isdigit() and 1 <= int(text) <= SHARDS_MAX):
        raise StackError(f"{SHARDS_VARIABLE} must be 1 to {SHARDS_MAX}, not {text!r}")
    return int(text)


def _by_compose() -> bool:
    runtime = os.environ.get("RUNTIME") or "local"
    if runtime not in {"local", "compose"}:
        raise StackError(f"RUNTIME must be local or compose, not {runtime!r}")
    return runtime == "compose"


def _show() -> bool:
    """Prints the table of parts; whether all are ready."""
    with _told():
        parts = several.statuses(_several()) if _is_of_several() else statuses(_stack())
    if not parts:
        _say("nothing was started yet; start the stack with: make up")
        return False
    table = Table("part", "state", "pid", "address", "in a browser", box=SIMPLE_HEAD, header_style="bold")
    for column in table.columns:
        # A URL that is cut short is worth nothing.
        column.overflow = "fold"
    for part in parts:
        state = "[green]ready[/]" if part.ready else "[red]not serving[/]" if part.pid else "[red]down[/]"
        table.add_row(part.name, state, str(part.pid or ""), part.address, part.page)
    console.print(table)
    are_ready = all(part.ready for part in parts)
    if not are_ready:
        _say(f"make {'up-ha' if _is_of_several() else 'up'} starts what does not run")
    return are_ready


def _say(line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


@contextmanager
def _told() -> Iterator[None]:
    """Ends the command with the message of what it cannot do."""
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True, highlight=False).print("interrupted; what runs by now goes on: make status, make down")
        raise typer.Exit(_INTERRUPTED) from None
    except StackError as error:
        Console(stderr=True, highlight=False).print(f"error: {error}", markup=False, soft_wrap=True, style="red")
        raise typer.Exit(1) from error


if __name__ == "__main__":
    # What a library has to tell about a server that is down is told by us, in the reader's terms.
    logging.basicConfig(level=logging.CRITICAL)
    app(prog_name="python -m deploy")
