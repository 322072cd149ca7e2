"""The composition root of reservations: `python -m reservations`."""

from collections.abc import Sequence
from pathlib import Path

import grpc

from chassis import settings
from chassis.consumer import Consumer
from chassis.database import Database
from chassis.guard import ByPeer
from chassis.outbox import Outbox
from chassis.paging import PageTokens
from chassis.parking import Backstop, Parking
from chassis.publisher import Publisher
from chassis.run import Process, run
from chassis.schema import Schema
from chassis.server import add_part
from contract import access
from contract.keys import EXCHANGE, REQUIRED
from reservations.catalog import Catalog
from reservations.catalog_servicer import CatalogServicer
from reservations.consumers import handlers
from reservations.handlers.answers import Answers
from reservations.handlers.desk import Desk
from reservations.handlers.opening import OpeningHandler
from reservations.handlers.refund import RefundHandler
from reservations.handlers.reserve import ReserveHandler
from reservations.handlers.settle import SettleHandler
from reservations.reads_servicer import Reads
from reservations.servicer import ReservationsServicer, TicketingServicer
from ticketrush.reservations.v1.reservations_pb2_grpc import add_ReservationsServiceServicer_to_server
from ticketrush.v1.catalog_pb2_grpc import add_CatalogServiceServicer_to_server
from ticketrush.v1.ticketing_pb2 import DESCRIPTOR as TICKETING_FILE

NAME = "reservations"
SERVICES = (
    "ticketrush.v1.CatalogService",
    "ticketrush.v1.TicketingService",
    "ticketrush.reservations.v1.ReservationsService",
)


TICKETING = TICKETING_FILE.services_by_name["TicketingService"]


class Settings(settings.Settings):
    """Where the broker and the schema `reservations` are."""

    amqp_url: settings.AmqpUrl
    database_url: settings.DatabaseUrl
    shards: settings.Shards = 1


def compose(chosen: Settings) -> Process:
    """The parts of the service, put together."""
    database = Database(chosen.database_url, schema=NAME, application=NAME)
    schema = Schema(database, NAME, Path(__file__).parent / "migrations")
    publisher = Publisher(chosen.amqp_url, exchange=EXCHANGE, mandatory_keys=REQUIRED, name=NAME, shards=chosen.shards)
    outbox = Outbox(database, publisher)
    parking = Parking(database)
    desk = Desk(database, outbox)
    answers = Answers(publisher)
    consumers = [
        Consumer(
            chosen.amqp_url,
            queue=queue,
            exchange=EXCHANGE,
            handlers=by_payload,
            publisher=publisher,
            parking=parking,
            shards=chosen.shards,
        )
        for queue, by_payload in handlers(ReserveHandler(desk, answers), SettleHandler(desk, answers)).items()
    ]
    backstop = Backstop(chosen.amqp_url, service=NAME, parking=parking)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        page_tokens = PageTokens()
        add_CatalogServiceServicer_to_server(CatalogServicer(Catalog(database, outbox), page_tokens), server)
        add_part(server, TICKETING, TicketingServicer(Reads(database, page_tokens), RefundHandler(desk)))
        add_ReservationsServiceServicer_to_server(ReservationsServicer(OpeningHandler(desk)), server)
        return SERVICES

    return Process(
        name=NAME,
        settings=chosen,
        register=register,
        guard=ByPeer(access.PEERS_BY_METHOD, access.OPEN, has_names=chosen.tls is not None),
        checks={
            "database": lambda: database.up,
            "broker": lambda: publisher.connected and all(consumer.connected for consumer in consumers),
        },
        open=[database.open, schema.at_start],
        background=[
            database.run,
            schema.run,
            publisher.run,
            outbox.run,
            backstop.run,
            *(consumer.run for consumer in consumers),
        ],
        drain=[*(consumer.drain for consumer in consumers), outbox.drain, publisher.drain],
        close=[database.close],
    )


if __name__ == "__main__":
    run(NAME, compose, settings.load(Settings))
