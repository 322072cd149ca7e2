"""Where everything of a local stack is: what `.run/stack.env` says."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from deploy import postgres, rabbitmq
from deploy.broker import user_url
from deploy.environment import ADMINISTRATOR_PASSWORD, BROKER_PASSWORD, role_url
from deploy.services import BROKER_USERS, LOOPBACK, PROCESSES, RABBITMQ, ROLES, SHARDS, TLS_DIR

# Of a broker of our own, or one in a container: another's may show none, or elsewhere.
RABBITMQ_METRICS_ADDRESS: Final = "RABBITMQ_METRICS_ADDRESS"


@dataclass(frozen=True)
class External:
    """Servers that somebody else runs, to be used instead of private ones.

    Users of our own are made in such a broker only when its `management_url` is told; else all services connect as its
    URL says.
    """

    database_url: str | None = None
    amqp_url: str | None = None
    management_url: str | None = None


def gather(
    run_dir: Path, ports: Mapping[str, int], passwords: Mapping[str, str], external: External, *, shards: int
) -> dict[str, str]:
    """Every fact: the addresses of the services, the URLs of the servers, and each role's own URL."""
    facts: dict[str, str] = {}
    for service in PROCESSES:
        facts[service.address] = f"{LOOPBACK}:{ports[service.name]}"
        facts[service.metrics_address] = f"{LOOPBACK}:{ports[service.name + '_metrics']}"
    facts["DATABASE_URL"] = external.database_url or postgres.url(ports["postgres"], passwords[ADMINISTRATOR_PASSWORD])
    facts["AMQP_URL"] = external.amqp_url or rabbitmq.url(ports["rabbitmq"], passwords[BROKER_PASSWORD])
    facts["RABBITMQ_MANAGEMENT_URL"] = _management_url(ports, external)
    if external.amqp_url is None:
        facts[RABBITMQ_METRICS_ADDRESS] = f"{LOOPBACK}:{ports['rabbitmq_metrics']}"
    for user in BROKER_USERS:
        own = user_url(facts["AMQP_URL"], user, passwords[user.password_variable])
        facts[user.amqp_url] = own if has_own_users(external) else facts["AMQP_URL"]
    for role in ROLES:
        facts[role.database_url] = role_url(facts["DATABASE_URL"], role, passwords[role.password_variable])
    facts["PROVIDER_STORE_PATH"] = str(run_dir / "provider.db")
    facts[TLS_DIR] = str(run_dir / "tls")
    # The HTTP front, which says for whom it calls.
    facts["TRUSTED_PROXIES"] = LOOPBACK
    facts[SHARDS] = str(shards)
    return facts


def has_own_users(external: External) -> bool:
    """Whether each service is a user of its own to the broker."""
    return external.amqp_url is None or external.management_url is not None


def _management_url(ports: Mapping[str, int], external: External) -> str:
    if external.amqp_url is None:
        return f"http://{LOOPBACK}:{ports['rabbitmq_management']}"
    # RabbitMQ's own default, unless we are told.
    return (
        external.management_url
        or f"http://{urlsplit(external.amqp_url).hostname}:{RABBITMQ.ports['rabbitmq_management']}"
    )
