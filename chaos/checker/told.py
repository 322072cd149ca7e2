"""What clients were told: one thing about one request, for ever, and the books say the same."""

from collections.abc import Iterator
from typing import Final

from chaos.checker.evidence import Evidence, Violation
from chaos.record import OK, UNANSWERED, Answer, Call, Request, ToldReservation

ANSWERED: Final = "whoever insists is told what became of it"
ONE_ANSWER: Final = "nobody is told two different things about one request_id"
KEPT: Final = "an OK'd call is never lost"
BOOKED: Final = "what was told is in the books"
SALE_STANDS: Final = "a sale is taken back only by a person"
NEVER_BACK: Final = "what is read is never older than what was told"
ONE_CONTENT: Final = "one version has one content"
AS_ASKED: Final = "whoever is served gets what was asked for"
WATCHED: Final = "a watch ends with the truth"
DOCUMENTED: Final = "a call ends as its documentation says"

# How else than with OK, or unanswered, a call may end.
_REFUSALS: Final[dict[Call, set[tuple[str, str]]]] = {
    "Reserve": set(),
    "Pay": set(),
    "Cancel": {("FAILED_PRECONDITION", "ALREADY_CONFIRMED")},
    "Refund": {("FAILED_PRECONDITION", "NOT_CONFIRMED")},
}
_CHARGED: Final = frozenset({"APPROVED", "REFUND_DUE", "REFUNDED"})


def check(evidence: Evidence) -> Iterator[Violation]:
    """Every rule about answers."""
    yield from (Violation(DOCUMENTED, f"a read was refused: {line}") for line in evidence.record.failed_reads)
    for request in evidence.record.requests:
        if request.insists and request.decision is None:
            yield Violation(ANSWERED, f"{request.call} {request.request_id} of {request.cell}")
        yield from _documented(request)
        yield from _one_answer(request)
        yield from _kept(evidence, request)
    yield from _sales_stand(evidence)
    yield from _never_back(evidence)
    yield from _one_content(evidence)
    yield from _watches(evidence)


def lost(evidence: Evidence) -> list[Request]:
    """Requests that were OK'd and left no trace."""
    return [request for request in evidence.record.requests if _is_lost(evidence, request)]


def _named(request: Request, answer: Answer) -> str:
    """The id under which the answer says that the request is known."""
    if request.call == "Pay":
        return answer.payment.payment_id if answer.payment else ""
    return answer.reservation.reservation_id if answer.reservation else ""


def _documented(request: Request) -> Iterator[Violation]:
    for answer in request.answers:
        told = (answer.code, answer.reason)
        if answer.code != OK and answer.code not in UNANSWERED and told not in _REFUSALS[request.call]:
            yield Violation(DOCUMENTED, f"{request.call} {request.request_id} ended with {answer.code} {answer.reason}")


def _one_answer(request: Request) -> Iterator[Violation]:
    named = {_named(request, answer) for answer in request.answers if answer.code == OK}
    if len(named) > 1:
        yield Violation(ONE_ANSWER, f"{request.call} {request.request_id} is {' and '.join(sorted(named))}")
    decisions = {_decision(request, answer) for answer in request.answers if request.is_decided_by(answer)}
    if len(decisions) > 1:
        told = " and ".join(sorted(map(str, decisions)))
        yield Violation(ONE_ANSWER, f"{request.call} {request.request_id} was told {told}")


def _decision(request: Request, answer: Answer) -> tuple[object, ...]:
    """What of an answer may never change, however far the thing has come since."""
    if answer.code != OK:
        return (answer.code, answer.reason)
    if answer.payment and request.call == "Pay":
        payment = answer.payment
        if payment.state == "REJECTED":
            return ("REJECTED", payment.decline_reason)
        return ("charged", payment.reservation_id, payment.amount_minor)
    reservation = answer.reservation
    if reservation is None or request.call != "Reserve":
        return ("done",)
    if reservation.state == "REJECTED":
        return ("REJECTED", reservation.reject_reason)
    return ("held", reservation.event_id, reservation.buyer_id, reservation.ticket_ids, reservation.total_minor)


def _is_lost(evidence: Evidence, request: Request) -> bool:
    answers = [answer for answer in request.answers if answer.code == OK]
    known = evidence.payments if request.call == "Pay" else evidence.reservations
    return any(_named(request, answer) not in known for answer in answers)


def _kept(evidence: Evidence, request: Request) -> Iterator[Violation]:
    if _is_lost(evidence, request):
        if request.cell not in evidence.lossy or request.decision is not None:
            yield Violation(KEPT, f"{request.call} {request.request_id} of {request.cell} is not in the books")
        return
    for answer in request.answers:
        if answer.code == OK and request.call == "Reserve" and answer.reservation:
            yield from _reservation_booked(evidence, request, answer.reservation)
        elif answer.code == OK and request.call == "Pay":
            yield from _payment_booked(evidence, request, answer)


def _reservation_booked(evidence: Evidence, request: Request, told: ToldReservation) -> Iterator[Violation]:
    row = evidence.reservations[told.reservation_id]
    if (row.buyer_id, row.request_id) != (request.buyer_id, request.request_id):
        yield Violation(BOOKED, f"{row.reservation_id} was told to {request.buyer_id} and is {row.buyer_id}'s")
    if told.state == "PENDING":
        return
    if told.state != "REJECTED" and (
        set(told.ticket_ids) != set(request.ticket_ids)
        if request.ticket_ids
        else len(told.ticket_ids) != request.quantity
    ):
        yield Violation(AS_ASKED, f"Reserve {request.request_id} got {told.ticket_ids}")
    booked = _as_told(row.state, row.reject_reason, evidence.tickets_of.get(row.reservation_id, ()), row.total_minor)
    if booked != _as_told(told.state, told.reject_reason, told.ticket_ids, told.total_minor):
        yield Violation(BOOKED, f"{row.reservation_id} was told as {told}, is {row}")
    if told.version > row.version:
        yield Violation(BOOKED, f"{row.reservation_id} was told in version {told.version}, is in {row.version}")


def _as_told(state: str, reason: str, tickets: tuple[str, ...], total_minor: int) -> tuple[object, ...]:
    return ("REJECTED", reason) if state == "REJECTED" else ("held", tickets, total_minor)


def _payment_booked(evidence: Evidence, request: Request, answer: Answer) -> Iterator[Violation]:
    told = answer.payment
    if told is None:
        yield Violation(BOOKED, f"Pay {request.request_id} was answered without a payment")
        return
    row = evidence.payments[told.payment_id]
    if (row.buyer_id, row.request_id) != (request.buyer_id, request.request_id):
        yield Violation(BOOKED, f"{row.payment_id} was told to {request.buyer_id} and is {row.buyer_id}'s")
    may_be = {"REJECTED": {"REJECTED"}, "APPROVED": _CHARGED, "REFUND_DUE": {"REFUND_DUE", "REFUNDED"}}
    if told.state != "PENDING" and row.state not in may_be.get(told.state, {told.state}):
        yield Violation(BOOKED, f"{row.payment_id} was told as {told.state}, is {row.state}")
    if told.state not in {"PENDING", "REJECTED"} and told.amount_minor != row.amount_minor:
        yield Violation(BOOKED, f"{row.payment_id} was told over {told.amount_minor}, is over {row.amount_minor}")


def _sales_stand(evidence: Evidence) -> Iterator[Violation]:
    for reservation_id, shown in evidence.told.items():
        row = evidence.reservations.get(reservation_id)
        if row is None:
            yield Violation(KEPT, f"{reservation_id} was shown and is not in the books")
        elif any(told.state == "CONFIRMED" for _, told in shown) and row.state != "CONFIRMED":
            if row.state != "CANCELLED" or reservation_id not in evidence.taken_back:
                yield Violation(SALE_STANDS, f"{reservation_id} was told to be CONFIRMED and is {row.state}")
        elif any(told.state == "CANCELLED" for _, told in shown) and row.state != "CANCELLED":
            yield Violation(BOOKED, f"{reservation_id} was told to be CANCELLED and is {row.state}")


def _never_back(evidence: Evidence) -> Iterator[Violation]:
    for sight in evidence.record.sights:
        told = sight.reservation
        newest = max(
            (
                answer.version
                for end_s, answer in evidence.told[told.reservation_id]
                if end_s < sight.begin_s and answer is not told
            ),
            default=0,
        )
        if told.version < newest:
            yield Violation(NEVER_BACK, f"{told.reservation_id} was read in {told.version} after {newest} was told")


def _one_content(evidence: Evidence) -> Iterator[Violation]:
    for reservation_id, shown in evidence.told.items():
        contents: dict[int, ToldReservation] = {}
        for _, told in shown:
            # The tickets in it have versions and states of their own, which are not compared here.
            if contents.setdefault(told.version, told) != told:
                yield Violation(ONE_CONTENT, f"{reservation_id}: {contents[told.version]} and {told}")


def _watches(evidence: Evidence) -> Iterator[Violation]:
    for event_id, shown in evidence.record.seat_maps.items():
        truth = {row.ticket_id: (row.state, row.version) for row in evidence.books.tickets if row.event_id == event_id}
        for ticket_id in sorted(truth.keys() | shown.keys()):
            if truth.get(ticket_id) != shown.get(ticket_id):
                yield Violation(WATCHED, f"{ticket_id} is {truth.get(ticket_id)}, shown {shown.get(ticket_id)}")
    for reservation_id, told in evidence.record.followed.items():
        row = evidence.reservations.get(reservation_id)
        if row is None or row.version != told.version:
            yield Violation(WATCHED, f"{reservation_id} is in {row.version if row else None}, shown in {told.version}")
    for reservation_id, state in evidence.record.endings:
        if state not in {"CANCELLED", "REJECTED", "EXPIRED"}:
            yield Violation(WATCHED, f"the watch of {reservation_id} ended at {state or 'nothing'}")
