"""The command `ticketrush`."""

from typing import Final

import typer

from cli import buying
from cli.events import event_app
from cli.tickets import tickets_app
from cli.token import token
from ops.audit_log import audit_log
from ops.facts import facts_app
from ops.forgetting.command import forget_buyer
from ops.fsck.command import fsck
from ops.outbox import outbox
from ops.parked.commands import parked_app
from ops.payments import payments_app
from ops.refunds import refunds_app

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
app.command(epilog='Example: TICKETRUSH_TOKEN="$(ticketrush token --buyer ada)" ticketrush watch RESERVATION_ID')(token)
OPERATORS: Final = "For operators (docs/operations.md)"
app.command(epilog="Example: ticketrush fsck --settled", rich_help_panel=OPERATORS)(fsck)
app.command(epilog="Example: ticketrush outbox", rich_help_panel=OPERATORS)(outbox)
app.command("audit", epilog="Example: ticketrush audit --limit 10", rich_help_panel=OPERATORS)(audit_log)
app.command(
    "forget-buyer", epilog="Example: ticketrush forget-buyer ada --reason 'asked for it'", rich_help_panel=OPERATORS
)(forget_buyer)
app.add_typer(parked_app, name="parked", rich_help_panel=OPERATORS)
app.add_typer(payments_app, name="payments", rich_help_panel=OPERATORS)
app.add_typer(refunds_app, name="refunds", rich_help_panel=OPERATORS)
app.add_typer(facts_app, name="facts", rich_help_panel=OPERATORS)

if __name__ == "__main__":
    app()
