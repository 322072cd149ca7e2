"""`python -m chaos`: breaks a stack of its own, cell after cell, and says whether every promise was kept."""

import asyncio
import logging
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.status import Status

from chaos import report
from chaos.cells import CELLS, PATHS_OF_MANY, SMOKE, Cell
from chaos.picture import write_svg
from chaos.report import Run, keep_logs
from chaos.result import Result
from chaos.several import HaSystem
from chaos.several_cells import HA_CELLS
from chaos.system import System
from chaos.theatre import Theatre
from deploy.debian import install
from deploy.errors import StackError
from deploy.services import SHARDS_DEFAULT

SMOKE_SEED: Final = "smoke"
_FILE_COLUMNS: Final = 160

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)


@app.command()
def main(
    cells: Annotated[list[str] | None, typer.Argument(help="Cells by name; all by default.")] = None,
    *,
    smoke: Annotated[bool, typer.Option(help="Only a handful of the most telling cells.")] = False,
    shards: Annotated[int, typer.Option(help="Of each work queue.", min=1)] = SHARDS_DEFAULT,
    seed: Annotated[str, typer.Option(help="Replays the choices of an earlier run.")] = "",
    out: Annotated[Path, typer.Option(help="Where chaos.json and chaos.svg go.")] = Path(".run/chaos"),
    list_cells: Annotated[bool, typer.Option("--list", help="Name the cells.")] = False,
    ha: Annotated[bool, typer.Option(help="Break a stack of several of everything, with cells of its own.")] = False,
) -> None:
    """Break a stack of its own on purpose, and check that every promise is kept."""
    known = HA_CELLS if ha else CELLS
    if list_cells:
        for cell in known.values():
            console.print(f"{cell.name:32}{cell.what}", soft_wrap=True)
        return
    names = list(dict.fromkeys(cells or (SMOKE if smoke else known)))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"there is no cell {', '.join(unknown)}; see --list")
    required = frozenset(PATHS_OF_MANY if not cells else ()).union(*(known[name].required for name in names))
    seed = seed or (SMOKE_SEED if smoke else secrets.token_hex(4))
    system = (HaSystem if ha else System)(Path(tempfile.mkdtemp(prefix="ticketrush-chaos-")), shards=shards)
    run = asyncio.run(_play([known[name] for name in names], seed, required, out, system))
    report.show(run, console)
    out.mkdir(parents=True, exist_ok=True)
    report.write_json(run, out / "chaos.json")
    write_svg(run, out / "chaos.svg")
    console.print(f"written to {out}/chaos.json and {out}/chaos.svg; played again by --seed {seed}")
    raise typer.Exit(1 if run.problems else 0)


async def _play(cells: Sequence[Cell], seed: str, required: Collection[str], out: Path, system: System) -> Run:
    playing = asyncio.current_task()
    if playing is not None:
        # As Ctrl-C does: the stack never outlives the run.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    results: list[Result] = []
    theatre = Theatre(system, seed)
    try:
        with console.status("a stack of its own") as status:
            await system.start()
            for number, cell in enumerate(cells, 1):
                title = f"[bold]{cell.name}[/] ({number} of {len(cells)})"
                missing = await asyncio.to_thread(_missing, cell, system.run_dir)
                if missing:
                    result = Result(cell.name, cell.what, skipped=missing)
                else:
                    result = await theatre.play(cell, partial(_tell, status, title))
                results.append(result)
                console.print(report.line(result))
        run = Run(seed, results, required)
    except Exception:
        # What would not start says why in its own log, which goes with the stack.
        keep_logs(system.run_dir, theatre.record, out)
        raise
    else:
        if run.problems:
            keep_logs(system.run_dir, theatre.record, out)
        return run
    finally:
        await system.stop()


def _missing(cell: Cell, run_dir: Path) -> str:
    """Why the cell cannot be played here; installs what it needs where we may."""
    if cell.needs and not shutil.which(cell.needs):
        try:
            install([cell.needs], run_dir / "apt.log", console.print)
        except StackError as error:
            return str(error)
    return ""


def _tell(status: Status, title: str, line: str) -> None:
    status.update(f"{title}: {line}")


if __name__ == "__main__":
    # What libraries have to say about servers that we have broken is no news.
    logging.basicConfig(level=logging.CRITICAL)
    app(prog_name="python -m chaos")
