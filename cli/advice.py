"""What a reason for a rejection means to the buyer, and what to do about it."""

from collections.abc import Mapping
from typing import Final

from contract import reasons

ADVICE: Final[Mapping[str, str]] = {
    # A reservation that is REJECTED.
    reasons.TICKETS_TAKEN: (
        "Somebody else was faster with at least one of them. `tickets list EVENT_ID --available` shows what is left."
    ),
    reasons.SOLD_OUT: (
        "The section has not so many tickets on sale. Ask for fewer or another section, or later, when holds ran out."
    ),
    reasons.UNKNOWN_EVENT: "No event has this id. `event list` shows those that there are.",
    reasons.UNKNOWN_TICKET: (
        "At least one of them is no ticket of this event. `tickets list EVENT_ID --available` shows its tickets."
    ),
    reasons.SALE_NOT_OPEN: (
        "Selling has not begun, or is over. `event show EVENT_ID` says from when until when tickets are on sale."
    ),
    reasons.EVENT_CLOSED: "This event sells no more tickets, today or later. `event list` shows others.",
    reasons.LIMIT_EXCEEDED: (
        "It is too much, with what this buyer holds and owns already. Ask for fewer; `event show EVENT_ID` says how "
        "many one buyer may have."
    ),
    reasons.TOO_LATE: "It came too late to be decided, and nothing is held. Reserve again, with a new --request-id.",
    # A payment that is REJECTED.
    reasons.UNKNOWN_RESERVATION: "No reservation has this id. Compare it with what `reserve` printed.",
    reasons.HOLD_ENDED: "The hold was over before the payment, and no money was kept. Reserve again.",
    reasons.NOT_YOUR_RESERVATION: "Somebody else made this reservation. Pay as the --buyer who reserved.",
    reasons.AMOUNT_ABOVE_DUE: "It is more than is still to be paid. Leave out --amount-minor to pay all that is due.",
    reasons.NOTHING_DUE: (
        "All is paid, or another payment of the rest is under way. `watch RESERVATION_ID` shows which."
    ),
    reasons.TOO_MANY_PAYMENTS: (
        "This reservation takes no more payments. Give it back with `cancel`, which refunds what was paid, and reserve "
        "again."
    ),
    reasons.CARD_DECLINED: "The bank refused this card; the hold runs on. Pay with another card before it runs out.",
    reasons.INSUFFICIENT_FUNDS: (
        "This card has not enough money; the hold runs on. Pay with another card, or a part of it with --amount-minor."
    ),
    reasons.UNKNOWN_PAYMENT_METHOD: "The card processor knows no such card. Correct --card, for example pm_card_ok.",
    reasons.PROVIDER_UNAVAILABLE: (
        "The card processor did not answer, and no money was kept. Pay again, with a new --request-id, before the hold "
        "runs out."
    ),
}
"""Reject or decline reason -> one line. A reason that a newer server gives may be missing."""

ADVICE_ON_ERRORS: Final[Mapping[str, str]] = {
    reasons.UNKNOWN_EVENT: "`event list` shows those that there are.",
    reasons.UNKNOWN_RESERVATION: "`orders` lists those that your token lets you see.",
    reasons.NOT_CONFIRMED: "A hold that is not paid for is given back with `cancel`.",
    reasons.ALREADY_CONFIRMED: "It is paid for; its organiser takes it back with `refund`.",
    reasons.ALREADY_REJECTED: "It holds nothing that could be given back.",
    reasons.EVENT_CANCELLED: "That is for ever. `event list` shows others.",
    reasons.EVENT_CLOSED: "That is for ever. `event list` shows others.",
    reasons.SEAT_EXISTS: "`tickets list EVENT_ID` shows those that there are.",
    reasons.REQUEST_ID_REUSED: "Leave --request-id out to ask for something new.",
    "NOT_ALLOWED": "Whom a token is for decides that; `ticketrush token --help` shows for whom there are some here.",
}
"""Reason of a call that was refused -> one line."""
