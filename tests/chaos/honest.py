"""A small run in which every promise was kept, to be falsified one lie at a time."""

from dataclasses import replace
from typing import Final

from chaos.books import Books, Charge, Credit, Entry, Held, Payment, Reservation, Step, Ticket
from chaos.checker.evidence import Evidence
from chaos.record import Answer, Record, Request, ToldPayment, ToldReservation

EVENT: Final = "event"
PRICE: Final = 4_500
# Who is who: bought; held and let go; refused; cancelled after a part payment; taken back by the organiser.
SOLD, EXPIRED, REFUSED, CANCELLED, TAKEN_BACK = "sold", "expired", "refused", "cancelled", "taken-back"

_STATES: Final = {
    SOLD: "CONFIRMED",
    EXPIRED: "EXPIRED",
    REFUSED: "REJECTED",
    CANCELLED: "CANCELLED",
    TAKEN_BACK: "CANCELLED",
}
_STEPS: Final = {
    SOLD: ("RESERVED", "PAYMENT_OPENED", "SOLD"),
    EXPIRED: ("RESERVED", "EXPIRED"),
    REFUSED: ("REJECTED",),
    CANCELLED: ("RESERVED", "PAYMENT_OPENED", "PARTIALLY_PAID", "CANCELLED", "MONEY_CHANGED"),
    TAKEN_BACK: ("RESERVED", "PAYMENT_OPENED", "SOLD", "CANCELLED", "MONEY_CHANGED"),
}
_PAID: Final = {SOLD: PRICE, CANCELLED: 1_000, TAKEN_BACK: PRICE}


def evidence() -> Evidence:
    """Five buyers, one ticket each; the refused one wanted the sold one's."""
    return Evidence(Record(requests=_requests()), _books())


def told(name: str, state: str, version: int = 1) -> ToldReservation:
    """What the buyer is shown."""
    refused = state == "REJECTED"
    return ToldReservation(
        reservation_id=name,
        event_id=EVENT,
        buyer_id=f"{name}'s buyer",
        state=state,
        ticket_ids=() if refused else (f"seat of {name}",),
        total_minor=0 if refused else PRICE,
        paid_minor=PRICE if state == "CONFIRMED" else 0,
        refund_due_minor=0,
        refunded_minor=0,
        reject_reason="TICKETS_TAKEN" if refused else "",
        version=version,
    )


def paid(name: str, state: str) -> ToldPayment:
    """What the buyer is shown of a payment."""
    return ToldPayment(f"payment of {name}", name, _PAID[name], state, "")


def answered(
    *, reservation: ToldReservation | None = None, payment: ToldPayment | None = None, at_s: float = 1.0
) -> Answer:
    """An OK at a moment."""
    return Answer(at_s, at_s + 0.1, "OK", reservation=reservation, payment=payment)


def _requests() -> list[Request]:
    requests = []
    for name, state in _STATES.items():
        seat = f"seat of {SOLD if name == REFUSED else name}"
        reserve = Request(
            "Reserve", f"wish of {name}", f"{name}'s buyer", EVENT, "cell", ticket_ids=(seat,), insists=True
        )
        reserve.answers.append(answered(reservation=told(name, "REJECTED" if name == REFUSED else "HELD")))
        requests.append(reserve)
        if name in _PAID:
            pay = Request("Pay", f"pay of {name}", f"{name}'s buyer", EVENT, "cell", reservation_id=name)
            part = name == CANCELLED
            shown = replace(told(name, "PARTIALLY_PAID" if part else "CONFIRMED", 3), paid_minor=_PAID[name])
            pay.answers.append(answered(reservation=shown, payment=paid(name, "APPROVED"), at_s=2.0))
            requests.append(pay)
        if state == "CANCELLED":
            call = Request(
                "Cancel" if name == CANCELLED else "Refund", f"end of {name}", f"{name}'s buyer", EVENT, "cell", name
            )
            call.answers.append(answered(reservation=told(name, "CANCELLED", 4), at_s=3.0))
            requests.append(call)
    return requests


def _books() -> Books:
    books = Books(counts={EVENT: (3, 0, 1)}, allowances={(EVENT, f"{SOLD}'s buyer"): 1})
    books.reservations = [_reservation(name, state) for name, state in _STATES.items()]
    books.held = [Held(name, f"seat of {name}", name == SOLD) for name in _STATES if name != REFUSED]
    books.tickets = [
        Ticket(f"seat of {name}", EVENT, "SOLD" if name == SOLD else "AVAILABLE", PRICE, 3)
        for name in _STATES
        if name != REFUSED
    ]
    books.steps = [
        Step(name, version, kind, float(version))
        for name, kinds in _STEPS.items()
        for version, kind in enumerate(kinds, 1)
    ]
    books.payments = [_payment(name) for name in _PAID]
    books.credits = [
        Credit(f"payment of {name}", name, amount, "APPLIED" if name == SOLD else "REFUNDED")
        for name, amount in _PAID.items()
    ]
    books.charges = [
        Charge(f"payment of {name}", amount, 0 if name == SOLD else amount, "APPROVED")
        for name, amount in _PAID.items()
    ]
    books.entries = [entry for name in _PAID for entry in _entries(name)]
    books.payment_steps = [
        Step(payment.payment_id, version, "payment", float(version))
        for payment in books.payments
        for version in range(1, payment.version + 1)
    ]
    return books


def _reservation(name: str, state: str) -> Reservation:
    paid_minor = _PAID.get(name, 0)
    return Reservation(
        reservation_id=name,
        event_id=EVENT,
        buyer_id=f"{name}'s buyer",
        request_id=f"wish of {name}",
        state=state,
        reject_reason="TICKETS_TAKEN" if name == REFUSED else "",
        total_minor=0 if name == REFUSED else PRICE,
        paid_minor=paid_minor if name == SOLD else 0,
        refund_due_minor=0,
        refunded_minor=0 if name == SOLD else paid_minor,
        create_s=1.0,
        version=len(_STEPS[name]),
    )


def _payment(name: str) -> Payment:
    state = "APPROVED" if name == SOLD else "REFUNDED"
    return Payment(
        payment_id=f"payment of {name}",
        reservation_id=name,
        buyer_id=f"{name}'s buyer",
        request_id=f"pay of {name}",
        amount_minor=_PAID[name],
        state=state,
        decline_reason="",
        create_s=2.0,
        version=2 if name == SOLD else 4,
    )


def _entries(name: str) -> list[Entry]:
    payment_id, amount = f"payment of {name}", _PAID[name]
    postings = {"CHARGE": ("provider_clearing", "deferred_revenue")}
    if name != SOLD:
        postings |= {
            "REFUND_DUE": ("deferred_revenue", "refunds_payable"),
            "REFUND": ("refunds_payable", "provider_clearing"),
        }
    return [
        Entry(payment_id, posting, account, sign * amount)
        for posting, accounts in postings.items()
        for account, sign in zip(accounts, (1, -1), strict=True)
    ]
