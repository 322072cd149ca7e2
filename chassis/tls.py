"""Who is at the other end of a connection, by its certificate."""

from typing import Any

from grpc.aio import ServicerContext

_COMMON_NAME = "x509_common_name"


def peer_of(context: ServicerContext[Any, Any]) -> str | None:
    """The common name of the caller's certificate, which is the name of a service; None without a certificate."""
    return next((name.decode() for name in context.auth_context().get(_COMMON_NAME, ())), None)
