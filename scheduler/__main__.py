"""The composition root of the scheduler: `python -m scheduler`."""

from pathlib import Path

import reservations
from chassis import settings
from chassis.census import PARKED, Censuses
from chassis.channels import dial
from chassis.database import Database
from chassis.guard import ByPeer
from chassis.outbox import Outbox
from chassis.publisher import Publisher
from chassis.run import Process, run
from chassis.schema import Schema
from chassis.soundness import Rounds
from contract import access
from contract.keys import EXCHANGE, REQUIRED
from reservations.handlers.desk import Desk
from reservations.handlers.sweeps import Sweeps
from reservations.store import invariants
from reservations.store.census import HOLDS, TICKETS
from scheduler.jobs import Jobs
from ticketrush.payments.v1.payments_pb2_grpc import PaymentsServiceStub

NAME = "scheduler"
SCHEMA = "reservations"
# One for each sweep at once, and some for the outbox, the other jobs and the looks at soundness.
CONNECTIONS_MAX = 8


class Settings(settings.Settings):
    """Where the broker, the schema `reservations` and the payments service are."""

    amqp_url: settings.AmqpUrl
    database_url: settings.DatabaseUrl
    payments_address: settings.Address
    shards: settings.Shards = 1


def compose(chosen: Settings) -> Process:
    """The parts of the service, put together."""
    database = Database(chosen.database_url, schema=SCHEMA, application=NAME, connections_max=CONNECTIONS_MAX)
    schema = Schema(database, SCHEMA, Path(reservations.__file__).parent / "migrations")
    publisher = Publisher(
        chosen.amqp_url, exchange=EXCHANGE, mandatory_keys=REQUIRED, name=NAME, passive=True, shards=chosen.shards
    )
    # Its relay says what any scheduler wrote and did not get to say.
    outbox = Outbox(database, publisher)
    channel = dial(chosen.payments_address, tls=chosen.tls, peer="payments")
    jobs = Jobs(Sweeps(Desk(database, outbox)), PaymentsServiceStub(channel))
    return Process(
        name=NAME,
        settings=chosen,
        register=lambda _server: (),
        guard=ByPeer(access.PEERS_BY_METHOD, access.OPEN, has_names=chosen.tls is not None),
        checks={"database": lambda: database.up, "broker": lambda: publisher.connected},
        open=[database.open, schema.at_start, jobs.start],
        background=[
            database.run,
            schema.run,
            publisher.run,
            outbox.run,
            Rounds(database, invariants.CHECKS).run,
            Censuses(database, (PARKED, HOLDS, TICKETS)).run,
        ],
        drain=[jobs.drain, outbox.drain, publisher.drain],
        close=[database.close, channel.close],
    )


if __name__ == "__main__":
    run(NAME, compose, settings.load(Settings))
