"""`ticketrush payments stuck|differences|reconcile`."""

import json
from typing import Annotated, Final

import typer
from google.protobuf.duration_pb2 import Duration

from cli.options import span
from ops import terminal, waiting
from ops.options import Json, Limit
from ops.reconciling.commands import differences, reconcile

OLDER_THAN_S: Final = 60

payments_app = typer.Typer(no_args_is_help=True, help="Payments that do not come to an end, or not to the same one.")
payments_app.command(epilog="Example: ticketrush payments differences")(differences)
payments_app.command(epilog="Example: ticketrush payments reconcile --reason 'restored to 20:10'")(reconcile)


@payments_app.command("stuck", epilog="Example: ticketrush payments stuck --older-than 5m")
def stuck(
    *,
    older_than: Annotated[
        Duration | None,
        typer.Option(metavar="SPAN", parser=span, help="In their state for so long.", show_default="60s"),
    ] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List payments that are PENDING or REFUND_DUE for long, and what the card processor says of each.

    Exit code 1 when there are any.
    """
    least = older_than or Duration(seconds=OLDER_THAN_S)
    found = terminal.run(waiting.waiting(("PENDING", "REFUND_DUE"), least.ToTimedelta(), limit))
    if as_json:
        typer.echo(json.dumps([waiting.as_json(*one) for one in found]))
    else:
        waiting.print_table(found)
    raise typer.Exit(1 if found else 0)
