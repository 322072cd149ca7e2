"""`ticketrush orders` and `refund`: what was sold, and how a sale is taken back."""

from typing import Annotated, Final, Literal

import typer

from cli import show
from cli.completion import event_ids
from cli.gateway import CALL_TIMEOUT_S, Gateway, connect
from cli.options import Address, Json, Reason, RequestId, ReservationId, uuid
from cli.paging import pages
from ticketrush.v1 import ticketing_pb2 as pb

PAGE_SIZE_MAX: Final = 500
READ_MAX: Final = 20_000
"""How many reservations are looked through for those in one state: the gateway cannot be asked for a state."""

State = Literal["held", "partially_paid", "confirmed", "rejected", "expired", "cancelled"]


def orders(
    *,
    address: Address,
    buyer: Annotated[str, typer.Option(metavar="ID", help="Only of this buyer.")] = "",
    event: Annotated[
        str | None,
        typer.Option(metavar="EVENT_ID", parser=uuid, autocompletion=event_ids, help="Only of this event."),
    ] = None,
    state: Annotated[
        State | None,
        typer.Option(case_sensitive=False, help=f"Only in this state, of the newest {READ_MAX:,}."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    as_json: Json = False,
) -> None:
    """List reservations, the newest first. Buyers name themselves, organisers an event.

    With --json one on each line.
    """
    wanted = pb.Reservation.State.Value(f"STATE_{state.upper()}") if state else None
    request = pb.ListReservationsRequest(buyer_id=buyer, event_id=event or "")
    with connect(address, as_json=as_json) as gateway:
        found, are_all = _found(gateway, request, wanted, limit)
    if as_json:
        for one in found:
            show.print_json(one)
    else:
        show.reservations(found)
    if not are_all:
        show.note(f"There may be more than these {len(found)}: --limit shows up to 10000, --buyer and --event fewer.")


def refund(
    reservation_id: ReservationId,
    *,
    address: Address,
    request_id: RequestId,
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Take back a sale: its tickets return to sale, and all that was paid goes back. For its organiser."""
    request = pb.RefundReservationRequest(request_id=request_id, reservation_id=reservation_id, reason=reason)
    with connect(address, as_json=as_json, request_id=request_id) as gateway:
        answer = gateway.ticketing.RefundReservation(request, timeout=CALL_TIMEOUT_S)
    if as_json:
        show.print_json(answer)
        return
    show.reservation(answer.reservation)
    if answer.reservation.refund_due_minor:
        show.hint(f"The money is on its way: {show.called()} watch {reservation_id}")


def _found(
    gateway: Gateway,
    request: pb.ListReservationsRequest,
    state: pb.Reservation.State.ValueType | None,
    limit: int,
) -> tuple[list[pb.Reservation], bool]:
    """At most `limit`, and whether these are all that there are."""

    def ask(size: int, token: str) -> pb.ListReservationsResponse:
        page = pb.ListReservationsRequest(page_size=size, page_token=token)
        page.MergeFrom(request)
        return gateway.ticketing.ListReservations(page, timeout=CALL_TIMEOUT_S)

    found: list[pb.Reservation] = []
    read_max = limit if state is None else READ_MAX
    for page in pages(ask, lambda page: page.reservations, limit=read_max, page_size_max=PAGE_SIZE_MAX):
        found += [one for one in page.reservations if state in (None, one.state)]
        if not page.next_page_token:
            return found[:limit], len(found) <= limit
        if len(found) >= limit:
            break
    return found[:limit], False
