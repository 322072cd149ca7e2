"""The broker's users, permissions and furniture, brought into any broker over its management page."""

import hashlib
import json
import secrets
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from contract.broker import definitions
from deploy.errors import StackError
from deploy.process import wait_until
from deploy.services import BROKER_USERS, BrokerUser

_TIMEOUT_S: Final = 20.0
_READY_DEADLINE_S: Final = 30.0
_SALT_BYTES: Final = 4


def user_url(amqp_url: str, user: BrokerUser, password: str) -> str:
    """Where the administrator connects, but as this user."""
    parts = urlsplit(amqp_url)
    hosts = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user.name}:{quote(password, safe='')}@{hosts}").geturl()


def furnish(management_url: str, amqp_url: str, passwords: Mapping[str, str], *, shards: int = 1) -> None:
    """Makes all that the definitions say in the virtual host of the URL, as its user, who must be an administrator.

    `shards` are those of each work queue. `passwords` holds one for each user's `password_variable`. What is there
    already stays. Raises StackError.
    """
    body = json.dumps(filled(passwords, virtual_host(amqp_url), shards=shards)).encode()
    problem = ""

    def done() -> bool:
        nonlocal problem
        try:
            ask(management_url, amqp_url, "POST", "/api/definitions", body)
        except urllib.error.HTTPError as error:
            raise StackError(
                f"the user of AMQP_URL may not make users and queues at {management_url} "
                f"({error.code}: {error.read().decode(errors='replace')[:200]}); make it an administrator, or unset "
                "RABBITMQ_MANAGEMENT_URL: then every service connects as that user"
            ) from error
        except OSError as error:
            problem = str(error)
            return False
        return True

    if not wait_until(done, _READY_DEADLINE_S):
        raise StackError(f"RabbitMQ's management page at {management_url} does not answer: {problem}")


def filled(passwords: Mapping[str, str], virtual_host: str = "/", *, shards: int = 1) -> dict[str, Any]:
    """The definitions for this virtual host, with the hashes of the passwords."""
    known = definitions(shards)
    for things in known.values():
        for thing in things:
            if "vhost" in thing:
                thing["vhost"] = virtual_host
    known["vhosts"] = [{"name": virtual_host}]
    hashes = {user.name: _password_hash(passwords[user.password_variable]) for user in BROKER_USERS}
    for user in known["users"]:
        user["password_hash"] = hashes[user["name"]]
    return known


def virtual_host(amqp_url: str) -> str:
    """The one that the URL names."""
    return unquote(urlsplit(amqp_url).path[1:]) or "/"


def ask(
    management_url: str,
    amqp_url: str,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    timeout_s: float = _TIMEOUT_S,
) -> bytes:
    """The answer of the management page to the user of the AMQP URL. Raises urllib.error.HTTPError, OSError."""
    user = urlsplit(amqp_url)
    login = b64encode(f"{unquote(user.username or '')}:{unquote(user.password or '')}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310 # the broker's page, as this stack is told
        management_url + path,
        data=body,
        method=method,
        headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout_s) as answer:
        read: bytes = answer.read()
        return read


def _password_hash(password: str) -> str:
    """As RabbitMQ stores it: salt, then SHA-256 of salt and password."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
