"""Virtual hosts of the tests' broker, made and deleted through its management page."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from yarl import URL

from deploy.broker import ask
from deploy.services import BROKER_ADMINISTRATOR
from deploy.stack import Stack


@contextmanager
def vhost(stack: Stack, name: str) -> Iterator[str]:
    """The AMQP URL of a new virtual host, named so and not as any other; it is deleted with all that is in it."""
    name = f"{name}-{uuid4().hex}"
    page, url = stack.env["RABBITMQ_MANAGEMENT_URL"], stack.env["AMQP_URL"]
    everything = b'{"configure": ".*", "write": ".*", "read": ".*"}'
    ask(page, url, "PUT", f"/api/vhosts/{name}")
    ask(page, url, "PUT", f"/api/permissions/{name}/{BROKER_ADMINISTRATOR}", everything)
    try:
        yield str(URL(url).with_path(f"/{name}"))
    finally:
        ask(page, url, "DELETE", f"/api/vhosts/{name}")
