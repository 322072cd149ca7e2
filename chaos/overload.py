"""More calls than can be served: measures the peak first, then pours twice and five times as many."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.clients import Client, dial
from chaos.faults import Scene
from chaos.flood import Drop, Flood, poured
from chaos.record import Answer, Request, told_reservation
from chaos.sale import Sale, Terms, drawn_id, put_on_sale
from ticketrush.v1 import ticketing_pb2 as pb

# Two on two cores: the machine's other half has to serve them.
CROWDS: Final = 2
# Enough for whatever forms batches to form them.
CALLERS: Final = 512
MEASURED_S: Final = 8.0
POURED_S: Final = 10.0
BACK_AT_PEAK_WITHIN_S: Final = 5.0
AFTER_S: Final = 10.0
# A second counts as one at the peak from this share on.
PEAK_SHARE: Final = 0.85
TERMS: Final = Terms(hold_s=30, grace_s=5, instalment_s=5, seats=100_000, window=1)

PEAK: Final = "peak a second"
GOODPUT_2: Final = "goodput at twice the peak, %"
GOODPUT_5: Final = "goodput at five times the peak, %"
P99_5: Final = "p99 of admitted calls at five times the peak, ms"
GROWTH: Final = "memory grown by, MB"
BACK: Final = "seconds until back at the peak"
BARE: Final = "refusals without RetryInfo"
OTHER: Final = "calls that ended otherwise"
BOUNDS: Final = {
    GOODPUT_2: (70.0, float("inf")),
    P99_5: (0.0, 1_000.0),
    GROWTH: (0.0, 300.0),
    BACK: (0.0, BACK_AT_PEAK_WITHIN_S),
    BARE: (0.0, 0.0),
    OTHER: (0.0, 0.0),
}
_UNDECIDED: Final = (pb.Reservation.STATE_UNSPECIFIED, pb.Reservation.STATE_PENDING)


@dataclass
class _Crowds:
    scene: Scene
    sale: Sale
    next: int = 0

    async def pour(self, seconds: float, *, rate: float = 0.0) -> Sequence[Drop]:
        """At that rate, or in a closed loop; every answer goes into the record."""
        wanted = round(rate * seconds) + CROWDS if rate else round(20_000 * seconds / MEASURED_S)
        share = wanted // CROWDS
        floods = []
        for number in range(CROWDS):
            tickets = list(self.sale.seats[self.next : self.next + share])
            self.next += share
            floods.append(
                Flood(
                    address=self.scene.system.stack.address("gateway"),
                    event_id=self.sale.event_id,
                    buyer_id=f"{self.scene.cell}-crowd",
                    tickets=tickets,
                    request_ids=[drawn_id(self.scene.random) for _ in tickets],
                    seconds=seconds,
                    out=str(self.scene.system.run_dir / f"flood-{number}.jsonl"),
                    rate=rate / CROWDS,
                    in_flight=CALLERS // CROWDS,
                )
            )
        drops = [drop async for drop in poured(floods)]
        for drop in drops:
            self._note(drop)
        return drops

    def _note(self, drop: Drop) -> None:
        buyer_id, cell = f"{self.scene.cell}-crowd", self.scene.cell
        request = Request("Reserve", drop.request_id, buyer_id, self.sale.event_id, cell, ticket_ids=(drop.ticket_id,))
        shown = _shown(drop)
        request.answers.append(
            Answer(
                drop.due_s,
                drop.end_s,
                drop.code,
                drop.reason,
                reservation=told_reservation(shown.reservation) if shown else None,
            )
        )
        self.scene.record.requests.append(request)


async def overload(scene: Scene) -> None:
    """Twice the peak, five times the peak, and the peak again."""
    async with dial(scene.system.gateway_address) as channel:
        sale = await put_on_sale(Client(channel, scene.record, scene.random), TERMS, scene.random)
    crowds = _Crowds(scene, sale)
    await crowds.pour(2.0)
    measured = await crowds.pour(MEASURED_S)
    peak = _goodput(measured)
    before = _resident_mb(scene)
    twice = await crowds.pour(POURED_S, rate=2 * peak)
    five = await crowds.pour(POURED_S, rate=5 * peak)
    after = await crowds.pour(AFTER_S)
    outcomes = Counter(_outcome(drop) for drop in (*twice, *five))
    scene.figures |= {
        PEAK: round(peak),
        GOODPUT_2: round(100 * _goodput(twice) / peak),
        GOODPUT_5: round(100 * _goodput(five) / peak),
        P99_5: round(_percentile([drop.end_s - drop.due_s for drop in five if _outcome(drop) == "decided"], 99) * 1e3),
        GROWTH: round(_resident_mb(scene) - before),
        BACK: _back_at(after, peak),
        BARE: outcomes["bare"],
        OTHER: outcomes["other"],
    }


def _shown(drop: Drop) -> pb.ReserveResponse | None:
    return pb.ReserveResponse.FromString(bytes.fromhex(drop.reservation)) if drop.code == "OK" else None


def _outcome(drop: Drop) -> str:
    shown = _shown(drop)
    if shown is not None:
        return "accepted" if shown.reservation.state in _UNDECIDED else "decided"
    if drop.code == "RESOURCE_EXHAUSTED":
        return "refused" if drop.retry_after_s else "bare"
    return "other"


def _goodput(drops: Sequence[Drop]) -> float:
    """Calls that were decided, a second of the time in which calls were due."""
    begin, end = min(drop.due_s for drop in drops), max(drop.due_s for drop in drops)
    return sum(_outcome(drop) == "decided" for drop in drops) / (end - begin)


def _back_at(drops: Sequence[Drop], peak: float) -> float:
    """How many seconds passed before the first that was served at the peak."""
    begin = min(drop.due_s for drop in drops)
    seconds = Counter(int(drop.end_s - begin) for drop in drops if _outcome(drop) == "decided")
    return next((second for second in range(int(AFTER_S)) if seconds[second] >= PEAK_SHARE * peak), float("inf"))


def _percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("inf")


def _resident_mb(scene: Scene) -> float:
    """Memory of all services and of the broker."""
    stack, names = scene.system.stack, ("gateway", "reservations", "payments", "scheduler", "rabbitmq")
    pages = sum(int(Path(f"/proc/{stack.pid(name)}/statm").read_text().split()[1]) for name in names)
    return pages * 4096 / 1e6
