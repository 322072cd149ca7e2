"""Lines to other services: found again within two seconds of their return; given up when nothing comes back."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Self

import grpc

from chassis import tracing
from chassis.tls import Tls, called, channel_credentials

RECONNECT_BACKOFF_MS: Final = 100
RECONNECT_BACKOFF_MAX_MS: Final = 1_000
# One attempt, the handshake of TLS with a busy peer included.
CONNECT_TIMEOUT_MS: Final = 2_000
KEEPALIVE_MS: Final = 10_000
KEEPALIVE_TIMEOUT_MS: Final = 5_000
# For calls that are under way on a connection of our last certificate; longer than any deadline within.
RENEWAL_GRACE_S: Final = 60.0


def dial(address: str, *options: tuple[str, int | str], tls: Tls | None = None, peer: str = "") -> grpc.aio.Channel:
    """A channel to HOST:PORT, to be made in the loop that uses it; `options` are gRPC's own, beside ours.

    With `tls` both ends show certificates, and the other one must be that of the service named `peer`.
    """
    own = (
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_BACKOFF_MS),
        # Despite its name it is how long an attempt may take.
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
        # The default backs off to two minutes and would sleep on after the peer is back.
        ("grpc.max_reconnect_backoff_ms", RECONNECT_BACKOFF_MAX_MS),
        # A service that moved to another address under its name.
        ("grpc.dns_min_time_between_resolutions_ms", RECONNECT_BACKOFF_MAX_MS),
        # A network that swallows what is sent tells nobody: without pings every call would time out on it for ever.
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        # That one counts only for keepalive's own pings. Behind traffic another ping is on its way as a rule, whose
        # answer keepalive then waits for: 60 s by default.
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        *options,
    )
    if tls is None:
        return grpc.aio.insecure_channel(address, options=own, interceptors=tracing.interceptors())
    return _Renewed(
        tls,
        lambda by: grpc.aio.secure_channel(
            address, by, options=(*own, called(peer)), interceptors=tracing.interceptors()
        ),
    )


class _Renewed(grpc.aio.Channel):
    """Always the channel of our newest certificate: gRPC's own keeps the one it was made with for life.

    The first call after a change goes by a new channel; those under way on the old one are left to end on it.
    """

    def __init__(self, tls: Tls, connect: Callable[[grpc.ChannelCredentials], grpc.aio.Channel]) -> None:
        self._tls = tls
        self._connect = connect
        self._pem = tls.current()
        self._channel = connect(channel_credentials(self._pem))
        self._ending: set[asyncio.Task[None]] = set()

    def newest(self) -> grpc.aio.Channel:
        """The one to call by, now."""
        pem = self._tls.current()
        if pem != self._pem:
            ending = asyncio.ensure_future(self._channel.close(RENEWAL_GRACE_S))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._pem, self._channel = pem, self._connect(channel_credentials(pem))
        return self._channel

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _Calls(self, lambda channel: channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _Calls(self, lambda channel: channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _Calls(self, lambda channel: channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _Calls(self, lambda channel: channel.stream_stream(*args, **kwargs))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.newest().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.newest().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.newest().channel_ready()

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)
        for ending in self._ending:
            ending.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Calls:
    """What a stub holds of one method."""

    def __init__(self, channel: _Renewed, method_of: Callable[[grpc.aio.Channel], Callable[..., Any]]) -> None:
        self._channel = channel
        self._method_of = method_of
        self._made_by: grpc.aio.Channel | None = None
        self._method: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        newest = self._channel.newest()
        if self._method is None or newest is not self._made_by:
            self._made_by, self._method = newest, self._method_of(newest)
        return self._method(*args, **kwargs)
