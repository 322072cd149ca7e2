"""Where the money is, counted for the metrics."""

from typing import Final

from prometheus_client import Gauge

from chassis.census import Census

MONEY: Final = Census(
    Gauge(
        "ticketrush_money_minor", "Money in payments, in minor units, by the payments' state.", ("state", "currency")
    ),
    # A payment has no currency until it is opened: before that nothing is known but what was asked.
    "SELECT state, currency, sum(amount_minor) FROM payment WHERE currency <> '' GROUP BY 1, 2 ORDER BY 3 DESC",
)
