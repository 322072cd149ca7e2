"""`ticketrush reserve`, `pay`, `cancel` and `watch`: the buyer's side."""

from typing import Annotated, Final

import typer
from google.protobuf.duration_pb2 import Duration

from cli import show
from cli.failures import REFUSED, UNAVAILABLE
from cli.gateway import CALL_TIMEOUT_S, connect
from cli.options import Address, Buyer, EventId, Json, RequestId, ReservationId, Wait, uuid
from ticketrush.v1 import ticketing_pb2 as pb

WAIT_DEFAULT_S: Final = 2.0
"""What the gateway takes when it is not told how long to wait."""

_PAID: Final = pb.Payment.STATE_APPROVED
_GIVEN_BACK: Final = (pb.Reservation.STATE_CANCELLED, pb.Reservation.STATE_EXPIRED)


def reserve(
    event_id: EventId,
    *,
    buyer: Buyer,
    address: Address,
    request_id: RequestId,
    ticket: Annotated[
        list[str] | None,
        typer.Option(metavar="TICKET_ID", parser=uuid, help="This ticket; repeatable, all or nothing."),
    ] = None,
    section: Annotated[
        str, typer.Option(metavar="NAME", help="Instead of --ticket: the best seats of this section.")
    ] = "",
    quantity: Annotated[int, typer.Option(min=1, max=100, help="With --section: how many.")] = 1,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Hold tickets for a buyer, all or nothing, until they are paid for or the hold runs out."""
    if bool(ticket) == bool(section):
        raise typer.BadParameter("say either --ticket (as often as needed) or --section with --quantity")
    request = pb.ReserveRequest(
        request_id=request_id,
        event_id=event_id,
        buyer_id=buyer,
        ticket_ids=ticket,
        best_available=pb.BestAvailable(section=section, quantity=quantity) if section else None,
        wait=wait,
    )
    with connect(address, as_json=as_json, request_id=request_id) as gateway:
        answer = gateway.ticketing.Reserve(request, timeout=_timeout_s(wait))
    if as_json:
        show.print_json(answer)
    else:
        show.reservation(answer.reservation)
        if answer.reservation.state == pb.Reservation.STATE_HELD:
            pay_for = f"{answer.reservation.reservation_id} --buyer {buyer} --card pm_card_ok"
            show.hint(f"Pay for it before the hold runs out: {show.called()} pay {pay_for}")
    if answer.reservation.state == pb.Reservation.STATE_PENDING:
        _exit_undecided(request_id)
    if answer.reservation.state == pb.Reservation.STATE_REJECTED:
        raise typer.Exit(REFUSED)


def pay(
    reservation_id: ReservationId,
    *,
    buyer: Buyer,
    card: Annotated[
        str, typer.Option(metavar="TOKEN", help="The provider's token for a card, for example pm_card_ok.")
    ],
    address: Address,
    request_id: RequestId,
    amount_minor: Annotated[
        int, typer.Option(min=0, max=1_000_000_000_000, help="Minor units; 0 pays all that is due.")
    ] = 0,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Pay for a reservation, whole or in part. The exit code is 0 only if the money bought something."""
    request = pb.PayRequest(
        request_id=request_id,
        buyer_id=buyer,
        reservation_id=reservation_id,
        amount_minor=amount_minor,
        payment_method=card,
        wait=wait,
    )
    with connect(address, as_json=as_json, request_id=request_id) as gateway:
        answer = gateway.ticketing.Pay(request, timeout=_timeout_s(wait))
    if as_json:
        show.print_json(answer)
    else:
        show.payment(answer.payment)
        if answer.HasField("reservation"):
            show.reservation(answer.reservation)
    if answer.payment.state == pb.Payment.STATE_PENDING:
        _exit_undecided(request_id)
    if answer.payment.state != _PAID:
        raise typer.Exit(REFUSED)


def cancel(
    reservation_id: ReservationId,
    *,
    buyer: Buyer,
    address: Address,
    request_id: RequestId,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Give a hold back. Its tickets return to sale; what was paid is refunded."""
    request = pb.CancelReservationRequest(
        request_id=request_id, buyer_id=buyer, reservation_id=reservation_id, wait=wait
    )
    with connect(address, as_json=as_json, request_id=request_id) as gateway:
        answer = gateway.ticketing.CancelReservation(request, timeout=_timeout_s(wait))
    if as_json:
        show.print_json(answer)
    else:
        show.reservation(answer.reservation)
    if answer.reservation.state not in _GIVEN_BACK:
        _exit_undecided(request_id)


def watch(reservation_id: ReservationId, *, address: Address, as_json: Json = False) -> None:
    """Follow a reservation: as it is now, then a line for each change, until nothing more can happen or Ctrl-C."""
    with connect(address, as_json=as_json) as gateway:
        for answer in gateway.ticketing.WatchReservation(pb.WatchReservationRequest(reservation_id=reservation_id)):
            if as_json:
                show.print_json(answer)
            else:
                show.change(answer.reservation)


def _timeout_s(wait: Duration | None) -> float:
    return CALL_TIMEOUT_S + (wait.ToNanoseconds() / 1e9 if wait else WAIT_DEFAULT_S)


def _exit_undecided(request_id: str) -> None:
    typer.echo(
        f"Not decided yet. To hear the outcome, run it again with --request-id {request_id}: nothing happens twice.",
        err=True,
    )
    raise typer.Exit(UNAVAILABLE)
