"""The fault matrix: every cell by name, what it breaks, and what it is expected to see."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from chaos import faults, overload, paths
from chaos.faults import Fault, Scene
from chaos.proxy import BLACK_HOLE, REPLIES_LOST, REQUESTS_LOST, Weather
from chaos.system import CLIENTS, SERVERS, SERVICE_NAMES, links

Link = tuple[str, str]


@dataclass(frozen=True)
class Cell:
    """One fault. `lossy`: it destroys messages that the broker had confirmed. `takes`: rare paths that it must take."""

    name: str
    what: str
    fault: Fault
    lossy: bool = False
    takes: frozenset[str] = field(default=frozenset())
    # Within this the retry policy must bring every call to its end, even while the fault lasts.
    calls_within_s: float = float("inf")
    # Bounds of figures that it notes, lowest and highest.
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    # Whether buyers are there while it lasts.
    open_house: bool = True
    # The Debian package without which it cannot be played.
    needs: str = ""

    @property
    def required(self) -> frozenset[str]:
        """The rare paths without which it proves nothing."""
        return self.takes | (paths.BY_BUYERS if self.open_house else frozenset())


def _to(callee: str) -> Sequence[Link]:
    return [(caller, called) for caller, called, _ in links() if called == callee]


def _of(name: str) -> Sequence[Link]:
    """Every link of a service, to and from it."""
    return [(caller, callee) for caller, callee, _ in links() if name in {caller, callee}]


SLOW: Final = Weather(delay_s={"request": 0.15, "reply": 0.15}, bytes_per_s=50_000)
SLOW_CARDS: Final = Weather(delay_s={"reply": 3.0})
LATE_CARDS: Final = Weather(delay_s={"reply": faults.LATE_REPLY_S})


async def _nothing(_: Scene) -> None:
    await asyncio.sleep(faults.LINK_DOWN_S)


def _matrix() -> list[Cell]:
    parts = (*SERVICE_NAMES, *SERVERS)
    short = {"postgres": "database", "rabbitmq": "broker"}
    cells = [Cell("calm", "nothing breaks: the yardstick", _nothing)]
    cells += [
        Cell(f"kill-{short.get(name, name)}", f"kill -9 of {name}, three times", faults.killed(name)) for name in parts
    ]
    for seconds in (5, 30):
        cells += [
            Cell(
                f"pause{seconds}-{short.get(name, name)}",
                f"SIGSTOP of {name} for {seconds} s",
                faults.paused(name, seconds),
            )
            for name in parts
        ]
    return cells


def _network() -> list[Cell]:
    hole = {
        "gateway": _of("gateway"),
        "reservations": _of("reservations"),
        "payments": _of("payments"),
        "scheduler": _of("scheduler"),
        "provider": _to("provider"),
        "broker": _to("rabbitmq"),
        "database": _to("postgres"),
    }
    cells = [
        Cell(f"blackhole-{name}", f"nothing to and from {name} arrives", faults.weather(over, BLACK_HOLE))
        for name, over in hole.items()
    ]
    cells += [
        Cell(f"reset-{name}", f"RST on all connections of {name}, eight times", faults.reset(hole[name]))
        for name in ("gateway", "provider", "broker", "database")
    ]
    cells += [
        Cell(f"halfopen-{name}", f"requests reach {name}, no reply comes back", faults.weather(over, REPLIES_LOST))
        for name, over in {
            "gateway": [(CLIENTS, "gateway")],
            "reservations": [("payments", "reservations"), ("gateway", "reservations")],
            "provider": _to("provider"),
            "broker": _to("rabbitmq"),
            "database": _to("postgres"),
        }.items()
    ]
    cells += [
        Cell("deaf-broker", "nothing reaches the broker, it is heard", faults.weather(_to("rabbitmq"), REQUESTS_LOST))
    ]
    return cells + [
        Cell(f"slow-{name}", f"150 ms each way and 50 kB/s to {name}", faults.weather(_to(callee), SLOW))
        for name, callee in (("broker", "rabbitmq"), ("database", "postgres"), ("reservations", "reservations"))
    ]


def _servers() -> list[Cell]:
    return [
        Cell("broker-memory-alarm", "the broker takes nothing, silently", faults.memory_alarm),
        Cell(
            "broker-queues-deleted", "every work queue deleted, one after the other", faults.queues_deleted, lossy=True
        ),
        Cell("broker-wiped", "the broker comes back on an empty disk", faults.broker_wiped, lossy=True),
        Cell("database-backends-terminated", "every connection ended by the database", faults.backends_terminated),
        Cell("database-stopped-at-once", "pg_ctl stop -m immediate, twice", faults.database_stopped_at_once),
        Cell(
            "database-tables-locked",
            "nobody gets at the tables of reservations and payments",
            faults.tables_locked,
            takes=frozenset({paths.RETRY}),
        ),
        Cell("provider-down", "the card processor is gone for 20 s", faults.down(["provider"], 20)),
        Cell(
            "provider-slow", "every answer of the card processor takes 3 s", faults.weather(_to("provider"), SLOW_CARDS)
        ),
        Cell(
            "provider-late",
            "every answer of the card processor comes after its caller's deadline",
            faults.weather(_to("provider"), LATE_CARDS, 25),
        ),
        Cell("schedulers-stopped", "no scheduler for 60 s", faults.down(["scheduler"], 60, by="SIGTERM")),
    ]


def _operations() -> list[Cell]:
    return [
        Cell(
            "overload",
            "twice and five times as many carts of 50 as can be decided",
            overload.overload(cart=50),
            bounds=overload.BOUNDS,
            open_house=False,
        ),
        Cell(
            "overload-seats",
            "twice and five times as many single seats as can be decided, at two gateways",
            overload.overload(cart=1, two_gateways=True),
            bounds=overload.BOUNDS_OF_CALLS,
            open_house=False,
        ),
        Cell(
            "rolling-restart", "two of each service, each restarted in turn", faults.rolling_restart, calls_within_s=15
        ),
        Cell(
            "shards-changed",
            "two other numbers of shards and back, two of each service told one after the other",
            faults.shards_changed,
            calls_within_s=15,
        ),
        *(
            Cell(
                f"clocks-{direction}",
                f"the clock of one service after the other is an hour {direction}",
                faults.clocks_wrong(hours),
                needs="faketime",
            )
            for direction, hours in (("ahead", 1), ("behind", -1))
        ),
    ]


CELLS: Final = {cell.name: cell for cell in (*_matrix(), *_network(), *_servers(), *_operations())}
SMOKE: Final = ("kill-payments", "kill-reservations", "halfopen-database", "broker-wiped", "pause5-provider")
# What a run of the whole matrix, or of the smoke cells, must have seen besides.
PATHS_OF_MANY: Final = frozenset({paths.UNKNOWN_COMMIT, paths.REDELIVERY, paths.RELAY, paths.RECONCILE})
