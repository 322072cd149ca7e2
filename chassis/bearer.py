"""A channel whose calls carry a token: for callers of the public API."""

from typing import Any, Final, Self, TypeVar, cast

import grpc

KEY: Final = "authorization"

Channel = TypeVar("Channel", grpc.Channel, grpc.aio.Channel)


def bearing(channel: Channel, token: str) -> Channel:
    """The channel, with the token on every call made through it; as it is without a token.

    No interceptor: those of grpc.aio make a task of their own for each call.
    """
    return cast("Channel", _Bearing(channel, token)) if token else channel


class _Bearing:
    def __init__(self, channel: Any, token: str) -> None:
        self._channel = channel
        self._metadata = ((KEY, f"Bearer {token}"),)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._channel, name)
        if name not in {"unary_unary", "unary_stream", "stream_unary", "stream_stream"}:
            return found

        def multicallable(*arguments: Any, **named: Any) -> _Call:
            return _Call(found(*arguments, **named), self._metadata)

        return multicallable

    def __enter__(self) -> Self:
        self._channel.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._channel.__exit__(*error)

    async def __aenter__(self) -> Self:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._channel.__aexit__(*error)


class _Call:
    def __init__(self, call: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._call = call
        self._metadata = metadata

    def __call__(self, *arguments: Any, metadata: Any = (), **named: Any) -> Any:
        return self._call(*arguments, metadata=(*self._metadata, *(metadata or ())), **named)
