"""The composition root of payments: `python -m payments`."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from chassis import settings
from chassis.census import PARKED, Censuses
from chassis.consumer import Consumer
from chassis.database import Database
from chassis.guard import ByPeer
from chassis.outbox import Outbox
from chassis.paging import DEFAULT_SECRET, PageTokens
from chassis.parking import Backstop, Parking
from chassis.publisher import Publisher
from chassis.run import Process, run
from chassis.schema import Schema
from chassis.soundness import Rounds
from contract import access, keys
from payments import consumers, invariants
from payments.census import MONEY
from payments.charger import Charger
from payments.handlers import Handlers
from payments.peers import Peers
from payments.refunder import Refunder
from payments.servicer import PaymentsServicer, TicketingServicer

NAME: Final = "payments"
# All stages together stay below what the process may take to stop; a slow card is left to its lease.
CONSUMERS_DRAIN_S: Final = 1.5
WORK_DRAIN_S: Final = 3.0
OUTBOX_DRAIN_S: Final = 1.0
PUBLISHER_DRAIN_S: Final = 0.5


class Settings(settings.Settings):
    """The addresses of what payments needs; `page_token_secret` must be the same on all replicas."""

    amqp_url: settings.AmqpUrl
    database_url: settings.DatabaseUrl
    reservations_address: settings.Address
    provider_address: settings.Address
    shards: settings.Shards = 1
    page_token_secret: SecretStr = SecretStr(DEFAULT_SECRET.decode())


def compose(chosen: Settings) -> Process:
    """The whole service, put together in the loop that will run it."""
    database = Database(chosen.database_url, schema=NAME, application=NAME)
    peers = Peers(
        reservations_address=chosen.reservations_address, provider_address=chosen.provider_address, tls=chosen.tls
    )
    schema = Schema(database, NAME, Path(__file__).parent / "migrations")
    publisher = Publisher(
        chosen.amqp_url, exchange=keys.EXCHANGE, mandatory_keys=keys.REQUIRED, name=NAME, shards=chosen.shards
    )
    outbox = Outbox(database, publisher)
    charger = Charger(database, outbox, peers)
    refunder = Refunder(database, outbox, peers)
    handlers = Handlers(database, outbox, publisher, charger, refunder)
    parking = Parking(database)
    consume = partial(
        Consumer,
        chosen.amqp_url,
        exchange=keys.EXCHANGE,
        publisher=publisher,
        parking=parking,
        shards=chosen.shards,
    )
    charges = consume(queue=keys.PAYMENT_CHARGES, handlers=consumers.charges(handlers))
    refunds = consume(queue=keys.PAYMENT_REFUNDS, handlers=consumers.refunds(handlers))
    backstop = Backstop(chosen.amqp_url, service=NAME, parking=parking)
    tokens = PageTokens(chosen.page_token_secret.get_secret_value().encode())
    ticketing = TicketingServicer(database, tokens)
    internal = PaymentsServicer(handlers)

    async def give_up_old_requests() -> None:
        # They hold the tokens of cards.
        await parking.give_up_old_for_ever("request_payment")

    async def drain_consumers() -> None:
        await asyncio.gather(charges.drain(CONSUMERS_DRAIN_S), refunds.drain(CONSUMERS_DRAIN_S))

    async def drain_work() -> None:
        await asyncio.gather(charger.loop.drain(WORK_DRAIN_S), refunder.loop.drain(WORK_DRAIN_S))

    async def drain_messages() -> None:
        await outbox.drain(OUTBOX_DRAIN_S)
        await publisher.drain(PUBLISHER_DRAIN_S)

    return Process(
        name=NAME,
        settings=chosen,
        register=lambda server: [*ticketing.register(server), *internal.register(server)],
        guard=ByPeer(access.PEERS_BY_METHOD, access.OPEN, has_names=chosen.tls is not None),
        checks={
            "database": lambda: database.up,
            "broker": lambda: publisher.connected and charges.connected and refunds.connected,
        },
        open=[database.open, schema.at_start],
        background=[
            database.run,
            schema.run,
            publisher.run,
            outbox.run,
            charger.run,
            refunder.run,
            charges.run,
            refunds.run,
            backstop.run,
            give_up_old_requests,
            Rounds(database, invariants.CHECKS).run,
            Censuses(database, (PARKED, MONEY)).run,
        ],
        drain=[drain_consumers, drain_work, drain_messages],
        close=[peers.close, database.close],
    )


if __name__ == "__main__":
    run(NAME, compose, settings.load(Settings))
