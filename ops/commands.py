"""What the command `ticketrush` has for operators; imported only for them."""

from typing import Final

import typer

from ops.audit_log import audit_log
from ops.facts import facts_app
from ops.forgetting.command import forget_buyer
from ops.fsck.command import fsck
from ops.outbox import outbox
from ops.parked.commands import parked_app
from ops.payments import payments_app
from ops.refunds import refunds_app

PANEL: Final = "For operators (docs/operations.md)"

operators_app = typer.Typer(add_completion=False)
operators_app.command(epilog="Example: ticketrush fsck --settled", rich_help_panel=PANEL)(fsck)
operators_app.command(epilog="Example: ticketrush outbox", rich_help_panel=PANEL)(outbox)
operators_app.command("audit", epilog="Example: ticketrush audit --limit 10", rich_help_panel=PANEL)(audit_log)
operators_app.command(
    "forget-buyer", epilog="Example: ticketrush forget-buyer ada --reason 'asked for it'", rich_help_panel=PANEL
)(forget_buyer)
operators_app.add_typer(parked_app, name="parked", rich_help_panel=PANEL)
operators_app.add_typer(payments_app, name="payments", rich_help_panel=PANEL)
operators_app.add_typer(refunds_app, name="refunds", rich_help_panel=PANEL)
operators_app.add_typer(facts_app, name="facts", rich_help_panel=PANEL)
