"""`ticketrush token`: a token of the local stack's issuer, for whoever is named."""

from pathlib import Path
from typing import Annotated, Final

import typer
from google.protobuf.duration_pb2 import Duration

from chassis.callers import OPERATOR
from cli.addresses import told
from cli.options import span
from contract.access import BUYER, DOOR, ORGANISER, SERVICE

LASTS: Final = "1d"
LASTS_S_MAX: Final = 30 * 86_400


def token(
    *,
    buyer: Annotated[str, typer.Option(metavar="ID", help="Reserves and pays as this buyer_id.")] = "",
    organiser: Annotated[str, typer.Option(metavar="ID", help="Puts events on sale, which are then this one's.")] = "",
    service: Annotated[str, typer.Option(metavar="NAME", help="Another system, which reads.")] = "",
    door: Annotated[bool, typer.Option("--door", help="Looks at reservations at the door.")] = False,
    operator: Annotated[bool, typer.Option("--operator", help="May do everything, for anybody.")] = False,
    lasts: Annotated[
        Duration | None,
        typer.Option("--for", metavar="SPAN", parser=span, show_default=LASTS, help="How long it lasts."),
    ] = None,
) -> None:
    """Print a token of the local stack. Commands take it from $TICKETRUSH_TOKEN; without, they are the operator."""
    asked = {BUYER: buyer, ORGANISER: organiser, SERVICE: service, DOOR: door and DOOR, OPERATOR: operator and OPERATOR}
    chosen = [(role, str(subject)) for role, subject in asked.items() if subject]
    if len(chosen) != 1:
        raise typer.BadParameter("say one of: --buyer, --organiser, --service, --door, --operator")
    lasts_s = (lasts or span(LASTS)).ToNanoseconds() / 1e9
    if not 1 <= lasts_s <= LASTS_S_MAX:
        raise typer.BadParameter(f"--for must be 1s to {LASTS_S_MAX // 86_400}d")
    # Signing needs libraries that would make every other command slower to start.
    from deploy import issuer
    from deploy.errors import StackError

    key_file = told(issuer.KEY_FILE)
    if key_file is None:
        raise typer.BadParameter("there is no local stack here to give tokens (`make up`); ask its issuer for one")
    [(role, subject)] = chosen
    try:
        typer.echo(issuer.token(Path(key_file), subject, [role], lasts_s))
    except StackError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
