"""The cells that are played on several of everything: those of one of each that make sense there, and its own."""

from typing import Final

from chaos import several_faults as faults
from chaos.cells import CELLS, Cell

# P15: until a commit is confirmed again.
FAILOVER_MAX_S: Final = 40.0
# By the retry policy every call is at its end within this, whichever process died.
CALLS_WITHIN_S: Final = 60.0
# These bring a second process of their own, or measure what a machine can take.
_OF_ONE: Final = frozenset({"overload", "overload-seats", "rolling-restart", "shards-changed"})


def _own() -> list[Cell]:
    return [
        *(
            Cell(
                f"ha-kill-{name}",
                f"kill -9 of {what}, twice",
                faults.failover(kill),
                bounds={faults.FAILOVER_S: (0.0, FAILOVER_MAX_S)},
                calls_within_s=CALLS_WITHIN_S,
            )
            for name, what, kill in (
                ("primary", "the database's primary and its Patroni", faults.with_its_machine),
                ("postgres", "the primary's PostgreSQL alone", faults.without_patroni),
                ("patroni", "the primary's Patroni alone", faults.only_patroni),
            )
        ),
        Cell(
            "ha-kill-broker-leader",
            "kill -9 of the broker that leads the busiest queue, three times",
            faults.kill_broker_leader,
            calls_within_s=CALLS_WITHIN_S,
        ),
        Cell(
            "ha-broker-parted",
            f"SIGSTOP of the broker that leads the busiest queue for {faults.TAKEN_FOR_DEAD_S:.0f} s",
            faults.broker_parted,
        ),
        Cell(
            "ha-kill-any-server",
            "kill -9 of each etcd, broker, database and balancer in turn",
            faults.killed_one_by_one(faults.SERVERS_ONE_BY_ONE),
            bounds={faults.KILLED: (len(faults.SERVERS_ONE_BY_ONE), len(faults.SERVERS_ONE_BY_ONE))},
            calls_within_s=CALLS_WITHIN_S,
        ),
        Cell(
            "ha-kill-any-service",
            "kill -9 of each process of each service in turn",
            faults.killed_one_by_one(faults.SERVICES_ONE_BY_ONE),
            bounds={faults.KILLED: (len(faults.SERVICES_ONE_BY_ONE), len(faults.SERVICES_ONE_BY_ONE))},
            calls_within_s=CALLS_WITHIN_S,
        ),
        Cell(
            "ha-rolling-restart",
            "each process of each service is restarted in turn",
            faults.rolling_restart,
            calls_within_s=15,
        ),
    ]


OWN: Final = {cell.name: cell for cell in _own()}
HA_CELLS: Final = OWN | {name: cell for name, cell in CELLS.items() if name not in _OF_ONE}
