"""`ticketrush fsck`."""

import json
from typing import Annotated

import typer

from ops import places, terminal
from ops.fsck.inspection import Inspection
from ops.fsck.report import Report
from ops.options import Json


def fsck(
    *,
    settled: Annotated[bool, typer.Option("--settled", help="Demand that nothing is under way, too.")] = False,
    examples: Annotated[int, typer.Option(min=1, max=1_000, help="How many violations to show of each kind.")] = 5,
    as_json: Json = False,
) -> None:
    """Check what must always be true of tickets and money, in one snapshot of a live system.

    Exit codes: 0 all of it holds; 1 something is broken (or, with --settled, under way); 3 something could not be
    looked at.
    """
    with terminal.notes().status("Looking ..."):
        report = terminal.run(_inspect(settled=settled, examples_max=examples))
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        report.print(terminal.console())
    raise typer.Exit(report.exit_code)


async def _inspect(*, settled: bool, examples_max: int) -> Report:
    async with places.provider() as processor:
        return await Inspection(places.database_url(), processor, examples_max=examples_max).run(settled=settled)
