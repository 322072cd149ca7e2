"""The one table of who may call what: a row for every RPC of every service. What has no row nobody may call.

A public row says which roles may call, and what each of them sees; where the RPC is passed on to the service that owns
the data, its peers are who may pass it on. An internal row has peers only: services by the names in their certificates.
docs/security.md shows it as a page.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import grpc

from chassis.callers import OPERATOR, Caller
from chassis.errors import CallError

BUYER: Final = "buyer"
"""Reserves and pays for himself: his `buyer_id` is his token's subject."""
ORGANISER: Final = "organiser"
"""Sells events, which are his who created them."""
DOOR: Final = "door"
"""Lets people in who show a reservation."""
SERVICE: Final = "service"
"""Another system of the house, that reads."""

ROLES: Final = frozenset({BUYER, ORGANISER, DOOR, OPERATOR, SERVICE})

GATEWAY: Final = "gateway"
RESERVATIONS: Final = "reservations"
PAYMENTS: Final = "payments"
SCHEDULER: Final = "scheduler"
TOOLS: Final = "operator"
"""The peer that operators' commands are, and the demo."""


class Scope(Enum):
    """What of all that an RPC is about a role may call it for."""

    ALL = auto()
    BOUGHT = auto()
    """Where the buyer is the caller."""
    ORGANISED = auto()
    """Of an event that the caller created."""


@dataclass(frozen=True)
class Row:
    """Who may call one RPC: roles in public, with what they may call it for; peers inside; or everybody."""

    roles: Mapping[str, Scope] = field(default_factory=lambda: MappingProxyType({}))
    peers: frozenset[str] = frozenset()
    is_open: bool = False


_ALL: Final = {OPERATOR: Scope.ALL}
_EVERY_ROLE: Final = dict.fromkeys(ROLES, Scope.ALL)
_ORGANISERS: Final = _ALL | {ORGANISER: Scope.ORGANISED}
_BUYERS: Final = _ALL | {BUYER: Scope.BOUGHT}
_READERS: Final = _ALL | {SERVICE: Scope.ALL, BUYER: Scope.BOUGHT}


def _public(roles: Mapping[str, Scope], *, passed_on: bool = True) -> Row:
    return Row(roles, frozenset({GATEWAY}) if passed_on else frozenset())


def _internal(*peers: str) -> Row:
    return Row(peers=frozenset(peers))


_OPEN: Final = Row(is_open=True)
_TICKETING: Final = "/ticketrush.v1.TicketingService/"
_CATALOG: Final = "/ticketrush.v1.CatalogService/"
_PROVIDER: Final = "/ticketrush.provider.v1.PaymentProviderService/"

TABLE: Final[Mapping[str, Row]] = MappingProxyType(
    {
        # The buyer's side. Writes become commands: nobody passes them on as calls.
        f"{_TICKETING}Reserve": _public(_BUYERS, passed_on=False),
        f"{_TICKETING}Pay": _public(_BUYERS, passed_on=False),
        f"{_TICKETING}CancelReservation": _public(_BUYERS, passed_on=False),
        f"{_TICKETING}RefundReservation": _public(_ORGANISERS),
        f"{_TICKETING}GetReservation": _public(_READERS | {ORGANISER: Scope.ORGANISED, DOOR: Scope.ALL}),
        f"{_TICKETING}ListReservations": _public(_READERS | {ORGANISER: Scope.ORGANISED, DOOR: Scope.ALL}),
        f"{_TICKETING}WatchReservation": _public(_READERS | {ORGANISER: Scope.ORGANISED}, passed_on=False),
        f"{_TICKETING}GetPayment": _public(_READERS),
        f"{_TICKETING}ListPayments": _public(_READERS),
        # What is on sale, anybody who may be here may see.
        f"{_TICKETING}ListTickets": _public(_EVERY_ROLE),
        f"{_TICKETING}WatchTickets": _public(_EVERY_ROLE, passed_on=False),
        f"{_CATALOG}GetEvent": _public(_EVERY_ROLE),
        f"{_CATALOG}ListEvents": _public(_EVERY_ROLE),
        # The organiser's side.
        f"{_CATALOG}CreateEvent": _public(_ORGANISERS),
        f"{_CATALOG}UpdateEvent": _public(_ORGANISERS),
        f"{_CATALOG}CloseEvent": _public(_ORGANISERS),
        f"{_CATALOG}CancelEvent": _public(_ORGANISERS),
        f"{_CATALOG}CreateTickets": _public(_ORGANISERS),
        f"{_CATALOG}WithdrawTickets": _public(_ORGANISERS),
        # Between services.
        "/ticketrush.reservations.v1.ReservationsService/OpenPayments": _internal(PAYMENTS),
        "/ticketrush.payments.v1.PaymentsService/ReconcilePayments": _internal(SCHEDULER),
        f"{_PROVIDER}Charge": _internal(PAYMENTS),
        f"{_PROVIDER}CancelCharge": _internal(PAYMENTS),
        f"{_PROVIDER}Refund": _internal(PAYMENTS, TOOLS),
        f"{_PROVIDER}GetCharge": _internal(PAYMENTS, TOOLS),
        f"{_PROVIDER}ListCharges": _internal(TOOLS),
        # What a process says of itself.
        "/grpc.health.v1.Health/Check": _OPEN,
        "/grpc.health.v1.Health/List": _OPEN,
        "/grpc.health.v1.Health/Watch": _OPEN,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _OPEN,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _OPEN,
    }
)

OPEN: Final = frozenset(method for method, row in TABLE.items() if row.is_open)
ROLES_BY_METHOD: Final[Mapping[str, frozenset[str]]] = {
    method: frozenset(row.roles) for method, row in TABLE.items() if row.roles
}
PEERS_BY_METHOD: Final[Mapping[str, frozenset[str]]] = {method: row.peers for method, row in TABLE.items() if row.peers}


_MUST_BE: Final = {
    "buyer_id": "must be the subject of the caller's token",
    "event_id": "must be an event that the caller created",
}


def not_yours(name: str) -> CallError:
    """The refusal of a request whose field `buyer_id` or `event_id` names somebody else's, or nobody's."""
    problem = _MUST_BE[name]
    return CallError(grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED", f"{name}: {problem}", {name: problem})


@lru_cache(maxsize=4_096)
def _scopes(rpc: str, roles: frozenset[str]) -> frozenset[Scope]:
    allowed = TABLE[_TICKETING + rpc if _TICKETING + rpc in TABLE else _CATALOG + rpc].roles
    return frozenset(allowed[role] for role in roles if role in allowed)


def may_all(rpc: str, caller: Caller) -> bool:
    """Whether the caller may call the public RPC of this name for whatever there is."""
    return Scope.ALL in _scopes(rpc, caller.roles)


def may_for_buyer(rpc: str, caller: Caller, buyer_id: str) -> bool:
    """Whether the caller may call it for what is this buyer's."""
    scopes = _scopes(rpc, caller.roles)
    return Scope.ALL in scopes or (Scope.BOUGHT in scopes and caller.subject == buyer_id)


def may_for_organiser(rpc: str, caller: Caller, organiser_id: str) -> bool:
    """Whether the caller may call it for what belongs to an event of this organiser; "" is nobody's."""
    scopes = _scopes(rpc, caller.roles)
    return Scope.ALL in scopes or (Scope.ORGANISED in scopes and bool(organiser_id) and caller.subject == organiser_id)
