"""Who is let in when more calls come than can be served; others are refused at once, unread, and told when to return.

A call waits twice: until its handler begins, in gRPC and in the event loop, and then for what it asks for. The first
wait is measured by calls of our own to our own port, and refusing a share of the calls keeps it short (`Backlog`). The
second is measured by the calls themselves, and a limit on how many are under way keeps it short (`Limit`).

gRPC has a queue for each method, and one thread serves them all. So each method has its backlog, and what is refused
for it is taken from methods of lower rank first.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import grpc
from prometheus_client import Gauge

from chassis.channels import dial
from chassis.errors import DETAILS_KEY, CallError, overloaded, status_of

PROBE_INTERVAL_S: Final = 0.05
PROBE_TIMEOUT_S: Final = 5.0
# The metadata by which a probe is known. A stranger who sends it is refused, as a probe is.
PROBE_KEY: Final = "ticketrush-probe"
# The share that is refused follows the delay as in PIE (RFC 8033): it moves by so much, each PROBE_INTERVAL_S, for each
# second that the delay is above DELAY_TARGET_S or below, and for each second that it has grown or shrunk.
DELAY_TARGET_S: Final = 0.25
BY_EXCESS: Final = 0.1
BY_GROWTH: Final = 1.0
# What counts is the shortest delay of so long, as in CoDel (RFC 8289): a queue that stands, and not a pause.
STANDING_S: Final = 0.15

LATENCY_TARGET_S: Final = 0.5
# Of the calls that end within LATENCY_TARGET_S of each other. Some are always slow: a checkpoint, a pause.
SLOW_SHARE_MAX: Final = 0.1
FEW: Final = 20
LIMIT_FIRST: Final = 1_000
LIMIT_MIN: Final = 100
LIMIT_MAX: Final = 10_000
SHRINK_BY: Final = 0.8
GROW_BY: Final = 0.2

# Spread, so that those who were refused together do not come back together.
RETRY_AFTER_S: Final = (0.5, 1.5)
SPREAD: Final = 32

# How much of what is known of the traffic is kept each PROBE_INTERVAL_S: who has gone is forgotten in a second or two.
TRAFFIC_KEPT: Final = 0.8
# Less than rounding leaves.
_NOTHING: Final = 1e-9

_delay = Gauge("ticketrush_admission_delay_seconds", "How long the last probe waited to be taken up.", ("grpc_method",))
_share = Gauge("ticketrush_admission_refused_ratio", "Share of calls refused for that delay, 0 to 1.", ("grpc_method",))
_limit = Gauge("ticketrush_admission_limit_calls", "Calls admitted at a time.", ("grpc_method",))


class Backlog:
    """Which share of the calls of one method to refuse, so that the others do not wait long until they are handled."""

    def __init__(self, method: str) -> None:
        name = method.rpartition("/")[2]
        self.refused_share = 0.0
        self._method = method
        self._delay = _delay.labels(name)
        self.traffic = 0.0
        """Calls each PROBE_INTERVAL_S, of late."""
        self._came = 0
        self._has_calls = False
        # When the probe that is under way was made.
        self._asked: float | None = None
        self._took_s = self._seen_s = 0.0
        self._recent_s = deque([0.0], maxlen=round(STANDING_S / PROBE_INTERVAL_S))

    @property
    def needs_probe(self) -> bool:
        """Whether there is something to be known that no probe under way will tell."""
        return self._asked is None and (self._has_calls or self.refused_share > 0)

    def called(self) -> None:
        """A call came."""
        self._has_calls = True
        self._came += 1

    def learn(self, delay_s: float) -> None:
        """Calls wait so long now; to be told every PROBE_INTERVAL_S."""
        self._recent_s.append(delay_s)
        standing_s = min(self._recent_s)
        change = BY_EXCESS * (standing_s - DELAY_TARGET_S) + BY_GROWTH * (standing_s - self._seen_s)
        self._seen_s = standing_s
        if standing_s < DELAY_TARGET_S:
            # It may grow up to here; a full house makes it.
            change = min(change, 0.0)
        self.refused_share = min(max(self.refused_share + change, 0.0), 1.0)
        self.traffic = TRAFFIC_KEPT * self.traffic + (1 - TRAFFIC_KEPT) * self._came
        self._came = 0

    def tick(self) -> None:
        """Learns from the last probe, or from one that is under way for longer than the last one took."""
        under_way_s = time.monotonic() - self._asked if self._asked is not None else 0.0
        if self._asked is None and not self.needs_probe:
            # Nobody has come since, so nobody waits.
            self._took_s = 0.0
        self.learn(max(under_way_s, self._took_s))

    async def probe(self, channel: grpc.aio.Channel) -> None:
        """Asks as callers do, and sees how long it takes until somebody looks at it."""
        asked = self._asked = time.monotonic()
        self._has_calls = False
        probe: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self._method)
        with suppress(grpc.aio.AioRpcError):  # it is always refused
            await probe(b"", metadata=((PROBE_KEY, ""),), timeout=PROBE_TIMEOUT_S)
        self._asked = None
        self._took_s = time.monotonic() - asked
        self._delay.set(self._took_s)


class Limit:
    """As many calls at a time as are answered within LATENCY_TARGET_S: grows with each, shrinks when many are not."""

    def __init__(self) -> None:
        self.calls = float(LIMIT_FIRST)
        self._running = 0
        self._looked = 0.0
        self._ended = self._slow = 0

    @property
    def has_room(self) -> bool:
        return self._running < self.calls

    def begin(self) -> None:
        """A call is let in."""
        self._running += 1

    def end(self, seconds: float, now: float) -> None:
        """A call ended after so long."""
        is_in_use, is_slow = self._running > self.calls / 2, seconds > LATENCY_TARGET_S
        self._running -= 1
        self._ended += 1
        self._slow += is_slow
        if is_in_use and not is_slow:
            self.calls = min(self.calls + GROW_BY, LIMIT_MAX)
        if now - self._looked > LATENCY_TARGET_S:
            # Once for all calls that were under way together; of few that were slow their number is not the cause.
            if (is_in_use or self._ended >= FEW) and self._slow > SLOW_SHARE_MAX * self._ended:
                self.calls = max(self.calls * SHRINK_BY, LIMIT_MIN)
            self._looked, self._ended, self._slow = now, 0, 0


class Gate:
    """The admission of one method. While one of the limits `above` has no room, it has none either."""

    def __init__(self, method: str, rank: int, limit: Limit | None, above: Sequence[Limit]) -> None:
        self.backlog = Backlog(method)
        self.rank = rank
        self.limit = limit
        self.share = 0.0
        """Of its calls that are refused for its own backlog, or for one of higher rank."""
        self._above = above
        _share.labels(method.rpartition("/")[2]).set_function(lambda: self.share)

    @property
    def is_shut(self) -> bool:
        """Whether the next call is one too many."""
        if self.limit is not None and not self.limit.has_room:
            return True
        for limit in self._above:
            # It would take what others wait for.
            if not limit.has_room:
                return True
        return self.share > 0 and random.random() < self.share  # noqa: S311 # any call may be the one


class Admission:
    """The gates of a gRPC port. `limited` are full method names whose calls have a Limit.

    `ranks` are methods by what is given up first: the first collection before the second, and so on; methods in none of
    them last.
    """

    def __init__(self, limited: Collection[str], ranks: Sequence[Collection[str]] = ()) -> None:
        self._ranks = ranks
        self._limits = {method: Limit() for method in limited}
        self._gates: list[Gate] = []
        for method, limit in self._limits.items():
            _limit.labels(method.rpartition("/")[2]).set_function(partial(getattr, limit, "calls"))

    def gate(self, method: str) -> Gate:
        """A new gate, for a method by its full name."""
        rank = self._rank(method)
        above = [limit for name, limit in self._limits.items() if self._rank(name) > rank]
        gate = Gate(method, rank, self._limits.get(method), above)
        self._gates.append(gate)
        return gate

    async def run(self, address: str) -> None:
        """Measures by asking this address, the server's own, until cancelled."""
        async with dial(address) as channel, asyncio.TaskGroup() as probes:
            while True:
                for gate in self._gates:
                    gate.backlog.tick()
                    if gate.backlog.needs_probe:
                        probes.create_task(gate.backlog.probe(channel))
                self.spread()
                await asyncio.sleep(PROBE_INTERVAL_S)

    def spread(self) -> None:
        """Says how much each gate refuses: what a backlog asks for, from the lowest rank up to its own."""
        by_rank: list[list[Gate]] = [[] for _ in range(len(self._ranks) + 1)]
        for gate in self._gates:
            by_rank[gate.rank].append(gate)
            gate.share = 0.0
        traffic = [sum(gate.backlog.traffic for gate in gates) for gates in by_rank]
        for rank, gates in enumerate(by_rank):
            wanted = max((gate.backlog.refused_share for gate in gates), default=0.0)
            if wanted == 0.0:
                continue
            *below, own = _lowest_first(wanted, traffic[: rank + 1])
            for share, lower in zip(below, by_rank, strict=False):
                for gate in lower:
                    gate.share = max(gate.share, share)
            for gate in gates:
                # Of one rank only those are refused who wait.
                gate.share = max(gate.share, own * gate.backlog.refused_share / wanted)

    def _rank(self, method: str) -> int:
        return next((rank for rank, methods in enumerate(self._ranks) if method in methods), len(self._ranks))


def _lowest_first(share: float, traffic: Sequence[float]) -> list[float]:
    """By rank, what to refuse of it, so that of all the traffic this share is refused."""
    whole = sum(traffic)
    if not whole:
        return [share] * len(traffic)
    left, shares = share, []
    for part in (calls / whole for calls in traffic):
        refused = 0.0 if left <= _NOTHING else left / part if left < part else 1.0
        shares.append(refused)
        left -= refused * part
    return shares


def is_probe(metadata: Sequence[tuple[str, str | bytes]]) -> bool:
    """Whether a call is one of ours."""
    return any(key == PROBE_KEY for key, _ in metadata)


MESSAGE: Final = "more calls than can be served now; send the same request again after the given delay"
_FIRST_S, _LAST_S = RETRY_AFTER_S
_REFUSALS: Final = [
    overloaded("OVERLOADED", MESSAGE, _FIRST_S + (_LAST_S - _FIRST_S) * step / (SPREAD - 1)) for step in range(SPREAD)
]
_TRAILERS: Final = [((DETAILS_KEY, status_of(refusal).SerializeToString()),) for refusal in _REFUSALS]


def refusal() -> CallError:
    """What a call that is one too many is told."""
    return random.choice(_REFUSALS)  # noqa: S311 # jitter


async def refuse_unread(_: Any, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]
    """Says the same as `refusal` for as little work as possible."""
    context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
    context.set_details(MESSAGE)
    context.set_trailing_metadata(random.choice(_TRAILERS))  # noqa: S311 # jitter
