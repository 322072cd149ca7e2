"""How much of a port one caller, and one address, may take; what is too much is refused with the time to wait."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import unquote

import grpc
from grpc.aio import ServicerContext
from prometheus_client import Counter

from chassis.buckets import Buckets, Places, Rate
from chassis.callers import Caller
from chassis.errors import DETAILS_KEY, CallError, overloaded, status_of

RATE_LIMITED: Final = "RATE_LIMITED"
TOO_MANY_STREAMS: Final = "TOO_MANY_STREAMS"
TOO_LARGE: Final = "REQUEST_TOO_LARGE"
# Nobody knows when a stream of theirs will end.
STREAM_RETRY_AFTER_S: Final = 1.0
FORWARDED_KEY: Final = "x-forwarded-for"
# Of IPv6 one customer, and often one machine, has so many addresses.
IPV6_PREFIX: Final = 64
PEERS_REMEMBERED_MAX: Final = 4_096

Context = ServicerContext[Any, Any]
Network = IPv4Network | IPv6Network

_refused = Counter("ticketrush_limits_refused", "Calls refused because somebody took too much.", ("limit",))
_by_caller, _by_address = _refused.labels("caller rate"), _refused.labels("address rate")
_by_caller_streams, _by_address_streams = _refused.labels("caller streams"), _refused.labels("address streams")
_by_size = _refused.labels("request size")


@dataclass(frozen=True)
class Budget:
    """What one name may take: calls, and streams open at a time."""

    rate: Rate
    streams: int


class _Account:
    """What names have taken of a budget."""

    def __init__(self, budget: Budget) -> None:
        self.calls = Buckets(budget.rate)
        self.streams = Places(budget.streams)


class Limits:
    """Of one port. `roles` says which budget each role's callers have, by subject; None is no limit, and wins.

    Callers of several roles have the largest of their budgets. `addresses` is what each address may take, an IPv6 one
    with its whole /64; loopback may take all it wants unless `limit_loopback`. Of a peer in `proxies` the address is
    what the last hop of its `x-forwarded-for` says; nobody else is believed. `request_bytes` tells the largest request
    of a method, by its full name.
    """

    def __init__(
        self,
        *,
        roles: Mapping[str, Budget | None],
        addresses: Budget,
        request_bytes: Callable[[str], int],
        proxies: Collection[Network] = (),
        limit_loopback: bool = False,
    ) -> None:
        self.request_bytes = request_bytes
        self._accounts = {budget: _Account(budget) for budget in roles.values() if budget}
        self._roles = roles
        self._least = min(self._accounts, key=_size, default=None)
        self._of_roles: dict[frozenset[str], _Account | None] = {}
        self._addresses = _Account(addresses)
        self._proxies = tuple(proxies)
        self._limit_loopback = limit_loopback
        # The port of a peer is another each time, its host is not.
        self._of_peer = lru_cache(PEERS_REMEMBERED_MAX)(self._read_peer)
        self._of_host = lru_cache(PEERS_REMEMBERED_MAX)(self._read_host)

    def caller_wait_s(self, caller: Caller) -> float:
        """Counts a call of the caller, who may make it if this is 0; else in so many seconds."""
        account = self._account(caller)
        if account is None:
            return 0.0
        wait_s = account.calls.take(caller.subject, time.monotonic())
        if wait_s:
            _by_caller.inc()
        return wait_s

    def address_wait_s(self, context: Context) -> float:
        """Counts a call from where this one comes, which may go on if this is 0; else again in so many seconds."""
        address = self._address(context)
        if not address:
            return 0.0
        wait_s = self._addresses.calls.take(address, time.monotonic())
        if wait_s:
            _by_address.inc()
        return wait_s

    @contextmanager
    def stream(self, caller: Caller, context: Context) -> Iterator[None]:
        """A place for a stream. Raises CallError (RESOURCE_EXHAUSTED, TOO_MANY_STREAMS)."""
        with ExitStack() as places:
            if account := self._account(caller):
                if (leave := account.streams.take(caller.subject)) is None:
                    _by_caller_streams.inc()
                    raise _too_many_streams("caller", account.streams.places)
                places.callback(leave)
            if address := self._address(context):
                if (leave := self._addresses.streams.take(address)) is None:
                    _by_address_streams.inc()
                    raise _too_many_streams("address", self._addresses.streams.places)
                places.callback(leave)
            yield

    def _account(self, caller: Caller) -> _Account | None:
        try:
            return self._of_roles[caller.roles]
        except KeyError:
            account = self._of_roles[caller.roles] = self._read_roles(caller.roles)
            return account

    def _read_roles(self, roles: frozenset[str]) -> _Account | None:
        budgets = [self._roles[role] for role in roles if role in self._roles]
        if None in budgets:
            return None
        largest = max((budget for budget in budgets if budget), key=_size, default=self._least)
        return self._accounts[largest] if largest else None

    def _address(self, context: Context) -> str:
        """Whose calls count together; empty for an address without limits."""
        host, _, _ = context.peer().rpartition(":")
        address, is_proxy = self._of_peer(host)
        if is_proxy and (told := _forwarded(context)):
            return self._of_host(told) or address
        return address

    def _read_peer(self, peer: str) -> tuple[str, bool]:
        """The address in `ipv4:HOST` or `ipv6:[HOST]`, and whether it is a proxy's; others are on this machine."""
        kind, _, host = peer.partition(":")
        if kind not in {"ipv4", "ipv6"}:
            return "", False
        host = unquote(host).strip("[]")
        ip = _plain(host)
        return self._of_host(host), any(ip in network for network in self._proxies)

    def _read_host(self, host: str) -> str:
        try:
            ip = _plain(host)
        except ValueError:
            return ""
        if ip.is_loopback and not self._limit_loopback:
            return ""
        if isinstance(ip, IPv6Address):
            return f"{int(ip) >> (128 - IPV6_PREFIX):x}/{IPV6_PREFIX}"
        return str(ip)


def rate_limited(wait_s: float, whose: str) -> tuple[str, tuple[tuple[str, bytes]]]:
    """Message and trailing metadata of a call that came `wait_s` too soon for its `whose`: caller or address."""
    return _rate_limited(math.ceil(wait_s * 1e3), whose)


async def refuse_early(context: Context, wait_s: float, whose: str) -> None:
    """Ends a call that came too soon, for as little work as possible; it has sent nothing yet."""
    message, trailers = rate_limited(wait_s, whose)
    context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
    context.set_details(message)
    context.set_trailing_metadata(trailers)


def too_large(size: int, maximum: int) -> CallError:
    """The refusal of a request that no right request is as large as."""
    _by_size.inc()
    message = f"the request has {size:,} bytes; {maximum:,} is the most that this call takes"
    return CallError(grpc.StatusCode.INVALID_ARGUMENT, TOO_LARGE, message)


@lru_cache(maxsize=4_096)
def _rate_limited(wait_ms: int, whose: str) -> tuple[str, tuple[tuple[str, bytes]]]:
    message = f"this {whose} calls more often than it may; send the same request again after the given delay"
    details = status_of(overloaded(RATE_LIMITED, message, wait_ms / 1e3)).SerializeToString()
    return message, ((DETAILS_KEY, details),)


def _too_many_streams(whose: str, places: int) -> CallError:
    message = f"this {whose} has {places:,} streams open already, the most that it may; end one first"
    return overloaded(TOO_MANY_STREAMS, message, STREAM_RETRY_AFTER_S)


def _forwarded(context: Context) -> str:
    """Whom the nearest proxy says it asks for: the last word of the last header."""
    told = ""
    for key, value in context.invocation_metadata() or ():
        if key == FORWARDED_KEY:
            told = str(value)
    return told.rpartition(",")[2].strip()


def _plain(host: str) -> Any:
    ip = ip_address(host)
    return getattr(ip, "ipv4_mapped", None) or ip


def _size(budget: Budget) -> tuple[float, int, int]:
    return (budget.rate.per_s, budget.rate.burst, budget.streams)
