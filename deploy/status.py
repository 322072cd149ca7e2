"""How the parts of a local stack do, and where a person finds them."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from deploy import postgres, rabbitmq
from deploy.errors import StackError
from deploy.services import PROCESSES
from deploy.stack import Stack

_PAGE_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True)
class Status:
    """`pid` is None for what does not run here; `ready` says whether it answers, wherever it runs."""

    name: str
    pid: int | None
    ready: bool
    address: str
    page: str


def statuses(stack: Stack) -> list[Status]:
    """One per part; empty before the first `up`."""
    env = stack.env
    if not env:
        return []
    servers = [
        Status("postgres", stack.pid("postgres"), _answers_sql(env), _host(env["DATABASE_URL"]), ""),
        Status("rabbitmq", stack.pid("rabbitmq"), _answers_amqp(env), _host(env["AMQP_URL"]), _management(env)),
    ]
    return servers + [
        Status(
            service.name,
            stack.pid(service.name),
            stack.is_serving(service.name),
            env[service.address],
            f"http://{env[service.address]}/" if service.is_http else f"http://{env[service.metrics_address]}/metrics",
        )
        for service in PROCESSES
    ]


def _answers_sql(env: Mapping[str, str]) -> bool:
    try:
        postgres.check(env["DATABASE_URL"])
    except StackError:
        return False
    return True


def _answers_amqp(env: Mapping[str, str]) -> bool:
    try:
        rabbitmq.check(env["AMQP_URL"])
    except StackError:
        return False
    return True


def _management(env: Mapping[str, str]) -> str:
    """The management page if there is one; who may log in there is in AMQP_URL of stack.env."""
    page = urlsplit(env["RABBITMQ_MANAGEMENT_URL"])
    try:
        socket.create_connection((page.hostname, page.port or 80), timeout=_PAGE_TIMEOUT_S).close()
    except OSError:
        return ""
    return env["RABBITMQ_MANAGEMENT_URL"]


def _host(url: str) -> str:
    """Host and port of a URL, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]
