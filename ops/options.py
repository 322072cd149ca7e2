"""Options that several tools share."""

import getpass
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many to show at most.")]
Operator = Annotated[
    str,
    typer.Option(
        "--operator",
        metavar="NAME",
        default_factory=getpass.getuser,
        show_default="who is logged in",
        help="Who does it, for the audit.",
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit. Required.")]
