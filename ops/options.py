"""Options that several tools share."""

import getpass
from typing import Annotated

import typer


def _words(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("must say something")
    return text.strip()


Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many to show at most.")]
Operator = Annotated[
    str,
    typer.Option(
        "--operator",
        metavar="NAME",
        default_factory=getpass.getuser,
        callback=_words,
        show_default="who is logged in",
        help="Who does it, for the audit.",
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", callback=_words, help="Why, for the audit. Required.")]
