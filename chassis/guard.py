"""Who is let in: asked about every call, before its message is read."""

import logging
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import grpc
from grpc.aio import ServicerContext

from chassis.callers import ANYBODY, NOBODY, Caller, Metadata, told_by_door
from chassis.errors import CallError
from chassis.tls import peer_of
from chassis.tokens import Verifier

log = logging.getLogger(__name__)


class Rule(Protocol):
    """Decides about the calls of one method."""

    async def caller(self, metadata: Metadata) -> Caller:
        """Who calls, by the call's metadata. Raises CallError when it is not to be served."""

    def check_peer(self, context: ServicerContext[Any, Any]) -> None:
        """Raises CallError when it comes over a connection of somebody who may not call this."""


class Guard(Protocol):
    """Decides about the calls of a port."""

    def rule(self, method: str) -> Rule | None:
        """Of a method, by its full name; None when everybody may call it."""


class Unguarded:
    """Lets everybody in as one who may do everything: for tests of one part."""

    def rule(self, method: str) -> Rule | None:
        return None if method.startswith("/grpc.") else _Anybody()


class ByToken:
    """The public door: callers show a token, and what they are says which methods they may call.

    Without a verifier nobody is told apart; methods without a row are refused all the same.
    """

    def __init__(
        self, verifier: Verifier | None, roles: Mapping[str, Collection[str]], is_open: Collection[str]
    ) -> None:
        self._verifier = verifier
        self._roles = roles
        self._open = is_open

    def rule(self, method: str) -> Rule | None:
        if method in self._open:
            return None
        roles = self._roles.get(method)
        if roles is None:
            return _no_row(method)
        return _WithToken(self._verifier, frozenset(roles)) if self._verifier else _Anybody()


class ByPeer:
    """A port inside: which service a connection comes from says which methods may be called over it.

    The door says for whom it asks. Where connections have no names (loopback without TLS) peers are not told apart.
    """

    def __init__(self, peers: Mapping[str, Collection[str]], is_open: Collection[str], *, has_names: bool) -> None:
        self._peers = peers
        self._open = is_open
        self._has_names = has_names

    def rule(self, method: str) -> Rule | None:
        if method in self._open:
            return None
        peers = self._peers.get(method)
        if peers is None:
            return _no_row(method)
        return _FromPeer(frozenset(peers)) if self._has_names else _FromAnywhere()


class _Anybody:
    async def caller(self, metadata: Metadata) -> Caller:  # noqa: ARG002 - whoever it is
        return ANYBODY

    def check_peer(self, context: ServicerContext[Any, Any]) -> None:
        """Everybody."""


class _Nobody(_Anybody):
    async def caller(self, metadata: Metadata) -> Caller:  # noqa: ARG002 - whoever it is
        raise _not_allowed("nobody may call this")


class _WithToken(_Anybody):
    def __init__(self, verifier: Verifier, roles: frozenset[str]) -> None:
        self._verifier = verifier
        self._roles = roles

    async def caller(self, metadata: Metadata) -> Caller:
        caller = await self._verifier.caller(metadata)
        if self._roles.isdisjoint(caller.roles):
            raise _not_allowed(f"the token has none of the roles that may call this: {', '.join(sorted(self._roles))}")
        return caller


class _FromAnywhere(_Anybody):
    async def caller(self, metadata: Metadata) -> Caller:
        return told_by_door(metadata) or ANYBODY


class _FromPeer:
    def __init__(self, peers: frozenset[str]) -> None:
        self._peers = peers

    async def caller(self, metadata: Metadata) -> Caller:
        # Believed only if it is a peer who says so: `check_peer` is asked before anything is done.
        return told_by_door(metadata) or NOBODY

    def check_peer(self, context: ServicerContext[Any, Any]) -> None:
        if (peer := peer_of(context)) not in self._peers:
            name, allowed = peer or "a caller without a name", ", ".join(sorted(self._peers))
            raise _not_allowed(f"{name} may not call this: {allowed} may")


def _no_row(method: str) -> Rule:
    log.error("%s has no row in the table of who may call what: every call of it is refused", method)
    return _Nobody()


def _not_allowed(message: str) -> CallError:
    return CallError(grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED", message)
