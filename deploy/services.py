"""The one table of what runs, on which ports, with which settings and after what.

It feeds the local stack and `.run/stack.env`; `tests/deploy/test_compose.py` holds docker-compose.yml against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

LOOPBACK: Final = "127.0.0.1"
DATABASE: Final = "ticketrush"
ADMINISTRATOR: Final = "postgres"
SETTING_PREFIX: Final = "TICKETRUSH_"
# Of each work queue; the services' own default, too.
SHARDS: Final = "SHARDS"
SHARDS_DEFAULT: Final = 1


@dataclass(frozen=True)
class Service:
    """A process of ours, started by `python -m NAME`; one that `is_http` is a program compiled from the folder NAME.

    `settings` says where the value of each setting of its own comes from: setting (without prefix) -> fact. Facts are
    the lines of `.run/stack.env`. LISTEN_ADDRESS, METRICS_ADDRESS and TLS_*, which every service has, are not repeated
    here. The port of one that `is_public` is for everybody, and does not ask for a certificate. What `is_http` has no
    identity among the services: it is a caller of the public port as any.
    """

    name: str
    port: int
    metrics_port: int
    depends_on: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    is_public: bool = False
    is_http: bool = False

    @property
    def address(self) -> str:
        """The fact that holds the address at which it serves."""
        return "HTTP_ADDRESS" if self.is_http else f"{self.name.upper()}_ADDRESS"

    @property
    def metrics_address(self) -> str:
        """The fact that holds the address of its /metrics page."""
        return f"{self.name.upper()}_METRICS_ADDRESS"


@dataclass(frozen=True)
class Server:
    """A server that we run but did not write, with its ports: name (the first is named as the server) -> number."""

    name: str
    ports: Mapping[str, int]


@dataclass(frozen=True)
class Role:
    """A database role, of the service that logs in with it. It sees these schemas and owns nothing."""

    service: str
    schemas: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"ticketrush_{self.service}"

    @property
    def password_variable(self) -> str:
        """The environment variable and line of `.run/secrets.env` that holds its password."""
        return f"{SETTING_PREFIX}{self.service.upper()}_PASSWORD"

    @property
    def database_url(self) -> str:
        """The fact that holds the URL with which its service connects."""
        return f"{self.service.upper()}_DATABASE_URL"


@dataclass(frozen=True)
class BrokerUser:
    """A user of the broker, of the service that logs in with it. What it may do is in contract/broker.py."""

    service: str

    @property
    def name(self) -> str:
        return f"ticketrush_{self.service}"

    @property
    def password_variable(self) -> str:
        """The environment variable and line of `.run/secrets.env` that holds its password."""
        return f"{SETTING_PREFIX}{self.service.upper()}_AMQP_PASSWORD"

    @property
    def amqp_url(self) -> str:
        """The fact that holds the URL with which its service connects."""
        return f"{self.service.upper()}_AMQP_URL"


POSTGRES: Final = Server("postgres", {"postgres": 5432})
RABBITMQ: Final = Server("rabbitmq", {"rabbitmq": 5672, "rabbitmq_management": 15672, "rabbitmq_metrics": 15692})
SERVERS: Final = (POSTGRES, RABBITMQ)
MIGRATE: Final = "migrate"
# In containers a job of its own; on one machine `up` itself makes them.
CERTIFICATES: Final = "certificates"

# Owns every schema and table, and nobody can log in as it.
OWNER: Final = f"{SETTING_PREFIX.lower()}owner"
# Each is a folder with migrations of its own.
SCHEMAS: Final = ("reservations", "payments")
# What each may do is written in deploy/grants.py. The operator is a person, with the commands of ops/.
ROLES: Final = (
    Role("reservations", ("reservations",)),
    Role("payments", ("payments",)),
    Role("scheduler", ("reservations",)),
    Role("operator", SCHEMAS),
)

BROKER_ADMINISTRATOR: Final = "ticketrush"
BROKER_USERS: Final = tuple(map(BrokerUser, ("gateway", "reservations", "payments", "scheduler", "operator")))

# In the order of starting; stopping is the reverse.
SERVICES: Final = (
    Service("provider", 50055, 9105, depends_on=(CERTIFICATES,), settings={"STORE_PATH": "PROVIDER_STORE_PATH"}),
    Service(
        "reservations",
        50052,
        9102,
        depends_on=(CERTIFICATES, "postgres", "rabbitmq", MIGRATE),
        settings={
            "AMQP_URL": "RESERVATIONS_AMQP_URL",
            "DATABASE_URL": "RESERVATIONS_DATABASE_URL",
            "SHARDS": SHARDS,
        },
    ),
    Service(
        "payments",
        50053,
        9103,
        depends_on=(CERTIFICATES, "postgres", "rabbitmq", MIGRATE, "provider", "reservations"),
        settings={
            "AMQP_URL": "PAYMENTS_AMQP_URL",
            "DATABASE_URL": "PAYMENTS_DATABASE_URL",
            "RESERVATIONS_ADDRESS": "RESERVATIONS_ADDRESS",
            "PROVIDER_ADDRESS": "PROVIDER_ADDRESS",
            "SHARDS": SHARDS,
        },
    ),
    Service(
        "scheduler",
        50054,
        9104,
        depends_on=(CERTIFICATES, "postgres", "rabbitmq", MIGRATE, "payments"),
        settings={
            "AMQP_URL": "SCHEDULER_AMQP_URL",
            "DATABASE_URL": "SCHEDULER_DATABASE_URL",
            "PAYMENTS_ADDRESS": "PAYMENTS_ADDRESS",
            "SHARDS": SHARDS,
        },
    ),
    Service(
        "gateway",
        50051,
        9101,
        depends_on=(CERTIFICATES, "rabbitmq", "reservations", "payments"),
        settings={
            "AMQP_URL": "GATEWAY_AMQP_URL",
            "RESERVATIONS_ADDRESS": "RESERVATIONS_ADDRESS",
            "PAYMENTS_ADDRESS": "PAYMENTS_ADDRESS",
            "AUTH_JWKS": "AUTH_JWKS",
            "AUTH_ISSUER": "AUTH_ISSUER",
            "AUTH_AUDIENCE": "AUTH_AUDIENCE",
            "TRUSTED_PROXIES": "TRUSTED_PROXIES",
            "SHARDS": SHARDS,
        },
        is_public=True,
    ),
)
FRONTEND: Final = Service(
    "frontend",
    8080,
    9106,
    depends_on=("gateway",),
    settings={
        "GATEWAY_ADDRESS": "GATEWAY_ADDRESS",
        "TOKEN_FILE": "FRONTEND_TOKEN_FILE",
        "SIGN_IN_KEY": "AUTH_KEY",
        "AUTH_ISSUER": "AUTH_ISSUER",
        "AUTH_AUDIENCE": "AUTH_AUDIENCE",
    },
    is_public=True,
    is_http=True,
)
# In the order of starting, likewise.
PROCESSES: Final = (*SERVICES, FRONTEND)

HTTP_PORT: Final = FRONTEND.port
GATEWAY_PORT: Final = next(service.port for service in SERVICES if service.name == "gateway")
OPERATOR: Final = "operator"
# Who has a certificate: each service, and people with their tools.
IDENTITIES: Final = (*(service.name for service in SERVICES), OPERATOR)
# The fact that says where the certificates are.
TLS_DIR: Final = "TLS_DIR"
TLS_SETTINGS: Final = ("TLS_CERT", "TLS_KEY", "TLS_CA")
NAMES: Final = tuple(part.name for part in (*SERVERS, *PROCESSES))


def settings(service: Service, facts: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of a service that listens where `facts` says. Raises KeyError for a missing fact."""
    sources = {"LISTEN_ADDRESS": service.address, "METRICS_ADDRESS": service.metrics_address, **service.settings}
    own = {SETTING_PREFIX + setting: facts[fact] for setting, fact in sources.items()}
    if service.is_http:
        return own
    tls = zip(TLS_SETTINGS, certificate_files(Path(facts[TLS_DIR]), service.name), strict=True)
    return own | {SETTING_PREFIX + setting: str(file) for setting, file in tls}


def certificate_files(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Of an identity: its certificate, its key, and the certificate of the CA that it trusts."""
    return folder / name / "cert.pem", folder / name / "key.pem", folder / name / "ca.pem"
