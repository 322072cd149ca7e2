"""The numbers of payments."""

from prometheus_client import Counter, Gauge

transitions = Counter("ticketrush_payments_transitions", "Payments that reached a state.", ("state",))
unanswered = Counter("ticketrush_payments_unanswered", "Attempts to charge or refund to be made again.", ("work",))
# Shown before they first count: what begins at 1 has not risen, to those who ask what has.
charges_unanswered = unanswered.labels("charges")
refunds_unanswered = unanswered.labels("refunds")
refunds_refused = Counter("ticketrush_payments_refunds_refused", "Refunds that the provider refused: an alarm.")
refunds_overdue = Gauge("ticketrush_payments_refunds_overdue", "Refunds due for longer than a minute: an alarm.")
