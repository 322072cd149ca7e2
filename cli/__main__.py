"""The command `ticketrush`."""

from typing import Any

import typer
from typer.core import TyperGroup

from cli import buying
from cli.events import event_app
from cli.load import load
from cli.orders import orders, refund
from cli.tickets import tickets_app
from cli.token import token


class _WithOperators(TyperGroup):
    """Fetches operators' commands when one of them, or the list of all, is asked for.

    They bring the database, the broker and more than half a second: nobody else should wait for them.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        self._fetch()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._fetch()
        return super().get_command(ctx, cmd_name)

    def _fetch(self) -> None:
        from ops.commands import operators_app

        self.commands.update(typer.main.get_group(operators_app).commands)


app = typer.Typer(
    name="ticketrush",
    cls=_WithOperators,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    help=(
        "Sell and buy tickets.\n\n"
        "Organisers: [bold]event create[/], [bold]tickets add[/], [bold]tickets watch[/], [bold]orders[/], "
        "[bold]refund[/]. "
        "Buyers: [bold]reserve[/], then [bold]pay[/] before the hold runs out, or [bold]cancel[/]. "
        "[bold]watch[/] follows a reservation.\n\n"
        "Exit codes: 0 done; 1 refused or rejected (the output says why); 2 something typed was wrong; "
        "3 no answer or not decided yet: run it again with the --request-id it names, nothing happens twice; "
        "130 ended by Ctrl-C; 141 nobody reads the output any more."
    ),
)
app.add_typer(event_app, name="event")
app.add_typer(tickets_app, name="tickets")
app.command(epilog="Example: ticketrush reserve EVENT_ID --buyer ada --section stalls --quantity 2")(buying.reserve)
app.command(epilog="Example: ticketrush pay RESERVATION_ID --buyer ada --card pm_card_ok")(buying.pay)
app.command(epilog="Example: ticketrush cancel RESERVATION_ID --buyer ada")(buying.cancel)
app.command(epilog="Example: ticketrush watch RESERVATION_ID")(buying.watch)
app.command(epilog="Example: ticketrush orders --event EVENT_ID --state confirmed")(orders)
app.command(epilog="Example: ticketrush refund RESERVATION_ID --reason 'the seat is broken'")(refund)
app.command(epilog="Example: ticketrush load --seconds 10 --buyers 8")(load)
app.command(epilog='Example: TICKETRUSH_TOKEN="$(ticketrush token --buyer ada)" ticketrush watch RESERVATION_ID')(token)

if __name__ == "__main__":
    app()
