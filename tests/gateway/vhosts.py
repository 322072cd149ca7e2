"""Virtual hosts of the tests' broker, made and deleted through its management page."""

import base64
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from yarl import URL

from deploy.stack import Stack

TIMEOUT_S = 20


@contextmanager
def vhost(stack: Stack, name: str) -> Iterator[str]:
    """The AMQP URL of a new virtual host; it is deleted with all that is in it."""
    _ask(stack, "PUT", f"/api/vhosts/{name}")
    _ask(stack, "PUT", f"/api/permissions/{name}/guest", b'{"configure": ".*", "write": ".*", "read": ".*"}')
    try:
        yield str(URL(stack.env["AMQP_URL"]).with_path(f"/{name}"))
    finally:
        _ask(stack, "DELETE", f"/api/vhosts/{name}")


def _ask(stack: Stack, method: str, path: str, body: bytes | None = None) -> None:
    credentials = base64.b64encode(b"guest:guest").decode()
    request = urllib.request.Request(  # noqa: S310 # the management page of our own broker
        stack.env["RABBITMQ_MANAGEMENT_URL"] + path,
        data=body,
        method=method,
        headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310 # the same
        pass
