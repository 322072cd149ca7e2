"""More calls than can be served: measures the peak first, then pours twice and five times as many."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.rpc.status_pb2 import Status

import loadgen
from chaos.clients import Client, dial, told
from chaos.faults import Fault, Scene
from chaos.record import OK, Answer, Request, told_reservation
from chaos.sale import Sale, Terms, drawn_id, put_on_sale
from loadgen import Call, Load
from ticketrush.v1 import ticketing_pb2 as pb

METHOD: Final = "/ticketrush.v1.TicketingService/Reserve"
WAIT_S: Final = 2
# Enough for whatever forms batches to form them.
CALLERS: Final = 256
MEASURED_S: Final = 5.0
POURED_S: Final = 5.0
# Tickets a second: more than any machine of ours sells, and what is asked for and refused.
CLOSED_MAX_PER_S: Final = 30_000
BACK_AT_PEAK_WITHIN_S: Final = 5.0
AFTER_S: Final = 6.0
# A second counts as one at the peak from this share on.
PEAK_SHARE: Final = 0.85
TERMS: Final = Terms(hold_s=60, grace_s=5, instalment_s=5, seats=1_300_000, window=1)

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
# Five times as many single seats are more calls than gRPC in Python can refuse on two cores: an empty server makes them
# wait for longer.
BOUNDS_OF_CALLS: Final = {name: bound for name, bound in BOUNDS.items() if name != P99_5}
_UNDECIDED: Final = (pb.Reservation.STATE_UNSPECIFIED, pb.Reservation.STATE_PENDING)


@dataclass
class _Crowd:
    scene: Scene
    sale: Sale
    program: Path
    addresses: Sequence[str]
    cart: int
    next: int = 0

    async def pour(self, seconds: float, *, rate: float = 0.0) -> Sequence[Call]:
        """At that rate, or in a closed loop; every answer goes into the record."""
        wanted = round(rate * seconds) if rate else round(CLOSED_MAX_PER_S * seconds / self.cart)
        left = range(self.next, len(self.sale.seats) - self.cart + 1, self.cart)
        requests = [self._request(at) for at in left[:wanted]]
        load = Load(
            addresses=self.addresses,
            methods=[METHOD],
            requests=[request.SerializeToString() for request in requests],
            seconds=seconds,
            rate=rate,
            in_flight=CALLERS,
            tokens=[self.scene.system.stack.operator_token],
        )
        calls = [call async for call in loadgen.poured(self.program, load)]
        self.next += len(calls) * self.cart
        for call in calls:
            self._note(requests[call.number], call)
        return calls

    def _request(self, at: int) -> pb.ReserveRequest:
        return pb.ReserveRequest(
            request_id=drawn_id(self.scene.random),
            event_id=self.sale.event_id,
            # Each a buyer of their own: nobody may hold so many carts.
            buyer_id=f"{self.scene.cell}-crowd-{at}",
            ticket_ids=self.sale.seats[at : at + self.cart],
            wait=Duration(seconds=WAIT_S),
        )

    def _note(self, asked: pb.ReserveRequest, call: Call) -> None:
        request = Request(
            "Reserve",
            asked.request_id,
            asked.buyer_id,
            asked.event_id,
            self.scene.cell,
            ticket_ids=tuple(asked.ticket_ids),
        )
        shown = _shown(call)
        reason = "" if shown else told(call.code, Status.FromString(call.body)).reason
        reservation = told_reservation(shown.reservation) if shown else None
        request.answers.append(Answer(call.due_s, call.end_s, call.code, reason, reservation=reservation))
        self.scene.record.requests.append(request)


def overload(*, cart: int, two_gateways: bool = False) -> Fault:
    """Twice the peak of carts of so many, five times the peak, and the peak again."""

    async def fault(scene: Scene) -> None:
        system = scene.system
        addresses = [system.stack.address("gateway")]
        if two_gateways:
            twin = await system.add_twins(["gateway"])
            addresses.append(twin.address("gateway"))
        try:
            await _overload(scene, cart, addresses)
        finally:
            await system.remove_twins()

    return fault


async def _overload(scene: Scene, cart: int, addresses: Sequence[str]) -> None:
    async with dial(scene.system.gateway_address, scene.system.stack.operator_token) as channel:
        sale = await put_on_sale(Client(channel, scene.record, scene.random), TERMS, scene.random)
    program = await asyncio.to_thread(loadgen.build, scene.system.run_dir / "loadgen")
    crowd = _Crowd(scene, sale, program, addresses, cart)
    await crowd.pour(1.0)
    measured = await crowd.pour(MEASURED_S)
    peak = _goodput(measured)
    before = _resident_mb(scene)
    twice = await crowd.pour(POURED_S, rate=2 * peak)
    five = await crowd.pour(POURED_S, rate=5 * peak)
    after = await crowd.pour(AFTER_S)
    outcomes = Counter(_outcome(call) for call in (*twice, *five))
    scene.figures |= {
        PEAK: round(peak),
        GOODPUT_2: round(100 * _goodput(twice) / peak),
        GOODPUT_5: round(100 * _goodput(five) / peak),
        P99_5: round(_percentile([call.end_s - call.due_s for call in five if _outcome(call) == "decided"], 99) * 1e3),
        GROWTH: round(_resident_mb(scene) - before),
        BACK: _back_at(after, peak),
        BARE: outcomes["bare"],
        OTHER: outcomes["other"],
    }


def _shown(call: Call) -> pb.ReserveResponse | None:
    return pb.ReserveResponse.FromString(call.body) if call.code == OK else None


def _outcome(call: Call) -> str:
    shown = _shown(call)
    if shown is not None:
        return "accepted" if shown.reservation.state in _UNDECIDED else "decided"
    if call.code == "RESOURCE_EXHAUSTED":
        return "refused" if call.retry_after_s else "bare"
    return "other"


def _goodput(calls: Sequence[Call]) -> float:
    """Calls that were decided, a second of the time in which calls were due."""
    begin, end = min(call.due_s for call in calls), max(call.due_s for call in calls)
    return sum(_outcome(call) == "decided" for call in calls) / (end - begin)


def _back_at(calls: Sequence[Call], peak: float) -> float:
    """How many seconds passed before the first that was served at the peak."""
    begin = min(call.due_s for call in calls)
    seconds = Counter(int(call.end_s - begin) for call in calls if _outcome(call) == "decided")
    return next((second for second in range(int(AFTER_S)) if seconds[second] >= PEAK_SHARE * peak), float("inf"))


def _percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("inf")


def _resident_mb(scene: Scene) -> float:
    """Memory of all services and of the broker."""
    names = ("gateway", "reservations", "payments", "scheduler", "rabbitmq")
    stacks = filter(None, (scene.system.stack, scene.system.twin))
    pids = [pid for stack in stacks for name in names if (pid := stack.pid(name))]
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * 4096 / 1e6
