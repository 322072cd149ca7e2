"""What a message shows by itself: every wrong field is named at once, and ids leave here in lower case."""

import re
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from chassis.errors import invalid
from chassis.paging import TOKEN_LENGTH_MAX
from contract.texts import CONTROL
from ticketrush.v1 import ticketing_pb2 as pb

TICKETS_MAX: Final = 100
AMOUNT_MINOR_MAX: Final = 1_000_000_000_000
PAYMENT_METHOD_LENGTH_MAX: Final = 64
SECTION_LENGTH_MAX: Final = 64
REASON_LENGTH_MAX: Final = 200
WAIT_DEFAULT_S: Final = 2.0
WAIT_MAX_S: Final = 30.0
PAGE_SIZE_MAX: Final = 500
TICKETS_PAGE_SIZE_MAX: Final = 1_000
# A refusal travels in HTTP/2 trailers, for which gRPC has 8 KiB by default.
WRONG_IDS_NAMED_MAX: Final = 10

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_BUYER = re.compile(r"[A-Za-z0-9._@:-]{1,64}")
_CARD_NUMBER = re.compile(r"(?:\d[ -]?){12,19}")
_NOT_A_UUID = "must be a UUID, 8-4-4-4-12 hexadecimal digits"
_NANOS_PER_S = 1_000_000_000

Violations = dict[str, str]


def reserve(request: pb.ReserveRequest) -> float:
    """Seconds to wait for the decision. Raises CallError (INVALID_ARGUMENT), as all here do."""
    wrong: Violations = {}
    _ids(request, ("request_id", "event_id"), wrong)
    _buyer(request.buyer_id, wrong)
    if request.HasField("best_available"):
        _best_available(request, wrong)
    else:
        _ticket_ids(request, wrong)
    return _checked(wrong, wait=request.wait if request.HasField("wait") else None)


def pay(request: pb.PayRequest) -> float:
    """Seconds to wait for the outcome."""
    wrong: Violations = {}
    _ids(request, ("request_id", "reservation_id"), wrong)
    _buyer(request.buyer_id, wrong)
    if not 0 <= request.amount_minor <= AMOUNT_MINOR_MAX:
        wrong["amount_minor"] = f"must be 0 (all that is due) to {AMOUNT_MINOR_MAX:,}"
    _text("payment_method", request.payment_method, PAYMENT_METHOD_LENGTH_MAX, wrong)
    if _CARD_NUMBER.fullmatch(request.payment_method):
        wrong["payment_method"] = "must be the provider's token for a card, never a card number"
    return _checked(wrong, wait=request.wait if request.HasField("wait") else None)


def cancel(request: pb.CancelReservationRequest) -> float:
    """Seconds to wait for the outcome."""
    wrong: Violations = {}
    _ids(request, ("request_id", "reservation_id"), wrong)
    _buyer(request.buyer_id, wrong)
    return _checked(wrong, wait=request.wait if request.HasField("wait") else None)


def refund(request: pb.RefundReservationRequest) -> None:
    wrong: Violations = {}
    _ids(request, ("request_id", "reservation_id"), wrong)
    _text("reason", request.reason, REASON_LENGTH_MAX, wrong)
    _check(wrong)


def reservation_id(request: pb.GetReservationRequest | pb.WatchReservationRequest) -> str:
    """The id asked for."""
    _only_id(request, "reservation_id")
    return request.reservation_id


def payment_id(request: pb.GetPaymentRequest) -> str:
    """The id asked for."""
    _only_id(request, "payment_id")
    return request.payment_id


def event_id(request: pb.WatchTicketsRequest) -> str:
    """The id asked for."""
    _only_id(request, "event_id")
    return request.event_id


def list_reservations(request: pb.ListReservationsRequest) -> None:
    wrong: Violations = {}
    if request.buyer_id:
        _buyer(request.buyer_id, wrong)
    if request.event_id:
        _ids(request, ("event_id",), wrong)
    _page(request, PAGE_SIZE_MAX, wrong)
    _check(wrong)


def list_payments(request: pb.ListPaymentsRequest) -> None:
    wrong: Violations = {}
    _ids(request, ("reservation_id",), wrong)
    _page(request, PAGE_SIZE_MAX, wrong)
    _check(wrong)


def list_tickets(request: pb.ListTicketsRequest) -> None:
    wrong: Violations = {}
    _ids(request, ("event_id",), wrong)
    if request.state not in pb.Ticket.State.values():
        wrong["state"] = "is not a state of a ticket"
    _page(request, TICKETS_PAGE_SIZE_MAX, wrong)
    _check(wrong)


def _check(wrong: Violations) -> None:
    if wrong:
        raise invalid(wrong)


def _checked(wrong: Violations, *, wait: Duration | None) -> float:
    """How long to wait, in seconds, if nothing is wrong."""
    wait_s = WAIT_DEFAULT_S
    if wait is not None:
        wait_s = wait.seconds + wait.nanos / _NANOS_PER_S
        if not (0 <= wait_s <= WAIT_MAX_S and 0 <= wait.nanos < _NANOS_PER_S):
            wrong["wait"] = f"must be 0 to {WAIT_MAX_S:g} s"
    _check(wrong)
    return wait_s


def _only_id(request: Message, name: str) -> None:
    wrong: Violations = {}
    _ids(request, (name,), wrong)
    _check(wrong)


def _ids(request: Message, names: tuple[str, ...], wrong: Violations) -> None:
    for name in names:
        value = getattr(request, name)
        if not _UUID.fullmatch(value):
            wrong[name] = _NOT_A_UUID
        elif value != (lower := value.lower()):
            setattr(request, name, lower)


def _buyer(buyer_id: str, wrong: Violations) -> None:
    if not _BUYER.fullmatch(buyer_id):
        wrong["buyer_id"] = "must be 1 to 64 characters out of letters, digits, . _ - @ :"


def _text(name: str, value: str, length_max: int, wrong: Violations) -> None:
    if not 0 < len(value) <= length_max:
        wrong[name] = f"must be 1 to {length_max} characters"
    elif CONTROL.search(value):
        wrong[name] = "must not hold control characters"


def _best_available(request: pb.ReserveRequest, wrong: Violations) -> None:
    if request.ticket_ids:
        wrong["ticket_ids"] = "must be empty when best_available is set"
    _text("best_available.section", request.best_available.section, SECTION_LENGTH_MAX, wrong)
    if not 1 <= request.best_available.quantity <= TICKETS_MAX:
        wrong["best_available.quantity"] = f"must be 1 to {TICKETS_MAX}"


def _ticket_ids(request: pb.ReserveRequest, wrong: Violations) -> None:
    if not 1 <= len(request.ticket_ids) <= TICKETS_MAX:
        wrong["ticket_ids"] = f"must be 1 to {TICKETS_MAX} tickets, unless best_available is set"
        return
    malformed = [place for place, value in enumerate(request.ticket_ids) if not _UUID.fullmatch(value)]
    wrong.update((f"ticket_ids[{place}]", _NOT_A_UUID) for place in malformed[:WRONG_IDS_NAMED_MAX])
    lower = [value.lower() for value in request.ticket_ids]
    if len(set(lower)) < len(lower):
        wrong["ticket_ids"] = "must not name a ticket twice"
    request.ticket_ids[:] = lower


def _page(
    request: pb.ListReservationsRequest | pb.ListPaymentsRequest | pb.ListTicketsRequest,
    size_max: int,
    wrong: Violations,
) -> None:
    if not 0 <= request.page_size <= size_max:
        wrong["page_size"] = f"must be 0 (the default) to {size_max}"
    if len(request.page_token) > TOKEN_LENGTH_MAX:
        wrong["page_token"] = f"must be at most {TOKEN_LENGTH_MAX} characters"
