"""The command `ticketrush`."""

import typer

from cli import buying
from cli.events import event_app
from cli.tickets import tickets_app
from ops.fsck.command import fsck

app = typer.Typer(
    name="ticketrush",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    help=(
        "Sell and buy tickets.\n\n"
        "Organisers: [bold]event create[/], [bold]tickets add[/], [bold]event show[/]. "
        "Buyers: [bold]reserve[/], then [bold]pay[/] before the hold runs out, or [bold]cancel[/]. "
        "[bold]watch[/] follows a reservation.\n\n"
        "Exit codes: 0 done; 1 refused (the output says why); 2 something typed was wrong; "
        "3 no answer or not decided yet: run it again with the --request-id it names, nothing happens twice."
    ),
)
app.add_typer(event_app, name="event")
app.add_typer(tickets_app, name="tickets")
app.command(epilog="Example: ticketrush reserve EVENT_ID --buyer ada --section stalls --quantity 2")(buying.reserve)
app.command(epilog="Example: ticketrush pay RESERVATION_ID --buyer ada --card pm_card_ok")(buying.pay)
app.command(epilog="Example: ticketrush cancel RESERVATION_ID --buyer ada")(buying.cancel)
app.command(epilog="Example: ticketrush watch RESERVATION_ID")(buying.watch)
app.command(epilog="Example: ticketrush fsck --settled")(fsck)

if __name__ == "__main__":
    app()
