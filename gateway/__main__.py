"""The composition root of the gateway: `python -m gateway`."""

from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from chassis import settings
from chassis.admission import Admission
from chassis.guard import ByToken
from chassis.keys import checked_place
from chassis.publisher import Publisher
from chassis.run import Process, run
from chassis.tokens import Issuer, Verifier
from contract import access, keys
from gateway.catalog import CatalogServicer
from gateway.feed import Streams
from gateway.hub import Hub
from gateway.inbox import Inbox
from gateway.limits import LimitSettings
from gateway.owners import Owners
from gateway.reads import Reads
from gateway.servicer import GIVEN_UP_FIRST, RESERVE, TicketingServicer
from gateway.submission import Submission
from gateway.waiters import Waiters
from gateway.watches import Watches


class Settings(LimitSettings, settings.PublicSettings):
    """Where the broker is, and the services that own what the gateway shows; whose tokens callers show.

    `auth_jwks` is the path or URL of the issuer's public keys. Only on loopback it may be unset: then nobody is told
    apart, and everybody may do everything.
    """

    amqp_url: settings.AmqpUrl
    reservations_address: settings.Address
    payments_address: settings.Address
    shards: settings.Shards = 1
    auth_jwks: Annotated[str, AfterValidator(checked_place)] = ""
    auth_issuer: str = ""
    auth_audience: str = ""

    @model_validator(mode="after")
    def _tells_callers_apart(self) -> Self:
        if self.auth_jwks and not (self.auth_issuer and self.auth_audience):
            raise ValueError(
                "TICKETRUSH_AUTH_ISSUER and TICKETRUSH_AUTH_AUDIENCE must be set beside TICKETRUSH_AUTH_JWKS: what the "
                "issuer's tokens have as iss and aud"
            )
        if not self.auth_jwks and not settings.is_for_this_machine(self.listen_address):
            raise ValueError(
                f"TICKETRUSH_LISTEN_ADDRESS {self.listen_address} can be reached from elsewhere, and nothing tells "
                "callers apart: set TICKETRUSH_AUTH_JWKS (path or URL of the issuer's key set), TICKETRUSH_AUTH_ISSUER "
                "and TICKETRUSH_AUTH_AUDIENCE, or listen on 127.0.0.1"
            )
        return self


def compose(chosen: Settings) -> Process:
    """The gateway's parts, put together; within the loop that will run them."""
    owners = Owners(
        reservations_address=chosen.reservations_address, payments_address=chosen.payments_address, tls=chosen.tls
    )
    reads = Reads(owners)
    hub = Hub(reads.tickets)
    waiters = Waiters()
    publisher = Publisher(
        chosen.amqp_url,
        exchange=keys.EXCHANGE,
        mandatory_keys=keys.REQUIRED,
        name="gateway.commands",
        passive=True,
        shards=chosen.shards,
    )
    submission = Submission(publisher, waiters)
    replies = Inbox(chosen.amqp_url, kind="replies", take=waiters.take, connected=submission.answer_at)
    facts = Inbox(
        chosen.amqp_url, kind="facts", take=hub.take, routing_keys=keys.WATCHED, connected=lambda _: hub.doubt()
    )
    ticketing = TicketingServicer(
        submission=submission,
        owners=owners,
        reads=reads,
        watches=Watches(hub, reads),
        streams=Streams(),
        call_timeout_s=chosen.call_timeout_s,
    )
    catalog = CatalogServicer(owners)
    issuer = Issuer(chosen.auth_jwks, chosen.auth_issuer, chosen.auth_audience)
    verifier = Verifier(issuer, access.ROLES) if chosen.auth_jwks else None
    return Process(
        name="gateway",
        settings=chosen,
        register=lambda server: [*ticketing.register(server), *catalog.register(server)],
        guard=ByToken(verifier, access.ROLES_BY_METHOD, access.OPEN),
        checks={
            "commands": lambda: publisher.connected,
            "replies": lambda: replies.link.connected,
            "facts": lambda: facts.link.connected,
        },
        admission=Admission(limited=[RESERVE], ranks=GIVEN_UP_FIRST),
        limits=chosen.limits(),
        open=[verifier.open] if verifier else [],
        background=[publisher.run, replies.link.run, facts.link.run, *([verifier.run] if verifier else [])],
        drain=[hub.stop, waiters.drain],
        close=[owners.close],
    )


if __name__ == "__main__":
    run("gateway", compose, settings.load(Settings))
