"""Lines to other services: found again within a second of their return, given up when nothing comes back any more."""

from typing import Final

import grpc

RECONNECT_BACKOFF_MS: Final = 100
RECONNECT_BACKOFF_MAX_MS: Final = 1_000
KEEPALIVE_MS: Final = 10_000
KEEPALIVE_TIMEOUT_MS: Final = 5_000


def dial(address: str, *options: tuple[str, int | str]) -> grpc.aio.Channel:
    """A channel to HOST:PORT, to be made in the loop that uses it; `options` are gRPC's own, beside ours."""
    return grpc.aio.insecure_channel(
        address,
        options=(
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_BACKOFF_MS),
            ("grpc.min_reconnect_backoff_ms", RECONNECT_BACKOFF_MS),
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
        ),
    )
