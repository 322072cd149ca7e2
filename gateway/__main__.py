"""The composition root of the gateway: `python -m gateway`."""

from functools import partial

from chassis import settings
from chassis.admission import Admission
from chassis.publisher import Publisher
from chassis.run import Process, run
from contract import keys
from gateway.catalog import CatalogServicer
from gateway.feed import Streams
from gateway.hub import Hub
from gateway.inbox import Inbox
from gateway.owners import Owners
from gateway.reads import Reads
from gateway.servicer import RESERVE, TicketingServicer
from gateway.submission import Submission
from gateway.waiters import Waiters
from gateway.watches import Watches


class Settings(settings.Settings):
    """Where the broker is, and the services that own what the gateway shows."""

    amqp_url: settings.AmqpUrl
    reservations_address: settings.Address
    payments_address: settings.Address


def compose(chosen: Settings) -> Process:
    """The gateway's parts, put together; within the loop that will run them."""
    owners = Owners(reservations_address=chosen.reservations_address, payments_address=chosen.payments_address)
    reads = Reads(owners)
    hub = Hub(reads.tickets)
    waiters = Waiters()
    publisher = Publisher(
        chosen.amqp_url, exchange=keys.EXCHANGE, mandatory_keys=keys.REQUIRED, name="gateway.commands", passive=True
    )
    submission = Submission(publisher, waiters)
    replies = Inbox(chosen.amqp_url, kind="replies", take=waiters.take, connected=submission.say_again)
    facts = Inbox(chosen.amqp_url, kind="facts", take=hub.take, routing_keys=keys.WATCHED, connected=hub.doubt)
    ticketing = TicketingServicer(
        submission=submission,
        reply_to=replies.queue,
        owners=owners,
        reads=reads,
        watches=Watches(hub, reads),
        streams=Streams(),
    )
    catalog = CatalogServicer(owners)
    return Process(
        name="gateway",
        settings=chosen,
        register=lambda server: [*ticketing.register(server), *catalog.register(server)],
        checks={
            "commands": lambda: publisher.connected,
            "replies": lambda: replies.link.connected,
            "facts": lambda: facts.link.connected,
        },
        admission=Admission(limited=[RESERVE]),
        background=[publisher.run, replies.link.run, facts.link.run],
        drain=[hub.stop, waiters.drain],
        close=[owners.close],
    )


if __name__ == "__main__":
    run(partial(compose, settings.load(Settings)))
