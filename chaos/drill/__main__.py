"""`python -m chaos.drill`: destroys and restores the database of a stack of its own, and says whether all came back."""

import asyncio
import json
import logging
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from chaos.drill import play
from chaos.drill.outcome import Outcome
from chaos.report import keep_logs

_FILE_COLUMNS: Final = 160

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)


@app.command()
def main(
    *,
    seed: Annotated[str, typer.Option(help="Replays the choices of the buyers of an earlier drill.")] = "",
    out: Annotated[Path, typer.Option(help="Where drill.json goes, and logs where something is wrong.")] = Path(
        ".run/drill"
    ),
) -> None:
    """Sell, back up, destroy the database, restore it to a point in time, and bring the money in order."""
    seed = seed or secrets.token_hex(4)
    outcome = asyncio.run(_play(seed, out))
    _show(outcome)
    out.mkdir(parents=True, exist_ok=True)
    (out / "drill.json").write_text(json.dumps({"seed": seed, **vars(outcome)}, indent=2, default=str) + "\n")
    console.print(f"written to {out}/drill.json; played again by --seed {seed}")
    raise typer.Exit(1 if outcome.problems else 0)


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ticketrush-drill-"))
    # The server's account has to get through.
    folder.chmod(0o711)
    return folder


async def _play(seed: str, out: Path) -> Outcome:
    playing = asyncio.current_task()
    if playing is not None:
        # As Ctrl-C does: the stack never outlives the drill.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    folder = _folder()
    run_dir = folder / "run"
    drill = play.make(run_dir, folder / "backups", seed, console.print)
    try:
        await drill.run()
    except BaseException:
        keep_logs(run_dir, drill.record, out)
        raise
    finally:
        if drill.outcome.problems:
            keep_logs(run_dir, drill.record, out)
        await asyncio.to_thread(drill.stop)
        shutil.rmtree(folder, ignore_errors=True)
    return drill.outcome


def _show(outcome: Outcome) -> None:
    table = Table(box=None, show_header=False)
    for name, value in (
        ("restored to", f"{outcome.target:%Y-%m-%d %H:%M:%S %Z}"),
        ("a whole copy took", f"{outcome.backup_s:.1f} s, while it sold"),
        ("recovery point", f"any instant up to {outcome.archive_lag_s:.1f} s before the end; this one was chosen"),
        ("forgotten", f"{outcome.forgotten_s:.1f} s"),
        ("the database was back after", f"{outcome.restored_s:.1f} s"),
        ("tickets were sold after", f"{outcome.selling_s:.1f} s"),
        ("all was in order after", f"{outcome.settled_s:.1f} s"),
        ("sales told before, after", f"{outcome.told_before}, {outcome.told_after}"),
        ("sales kept", f"{outcome.kept}"),
        ("sales from before given back by their buyers, or taken back", f"{outcome.taken_back}"),
        ("sales lost", f"{outcome.lost}, for {outcome.lost_minor / 100:.2f} EUR"),
        ("charges given back that the books forgot", f"{outcome.given_back}, {outcome.given_back_minor / 100:.2f} EUR"),
        ("remedies", ", ".join(f"{name} {count}" for name, count in sorted(outcome.remedies.items()))),
        ("rounds of reconcile", f"{outcome.rounds}"),
    ):
        table.add_row(name, value)
    console.print(table)
    for problem in outcome.problems:
        console.print(problem, style="red", markup=False, soft_wrap=True)
    console.print("[red]the drill failed[/]" if outcome.problems else "[green]nothing is missing[/]")


if __name__ == "__main__":
    # What libraries have to say about servers that we have destroyed is no news.
    logging.basicConfig(level=logging.CRITICAL)
    app(prog_name="python -m chaos.drill")
