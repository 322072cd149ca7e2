"""`python -m bench`: TicketRush beside its ceilings and beside what a good engineer would build instead.

All on one machine, on a stack of its own with fsync on, with the same compiled load generator, turn by turn. Prints a
table and writes everything to bench.json.
"""

import asyncio
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Final

import grpc
import psycopg
import typer
from psycopg.conninfo import make_conninfo
from rich.console import Console

import loadgen
from bench import subjects
from bench.named import NAMED
from bench.picture import write_svg
from bench.report import IN_FLIGHT, Figure, Round, markdown, percentile, show, told
from bench.scenarios import SCENARIOS, SCHEMA, BackOffice, NoOffice, Office, PublicOffice, Scenario
from bench.subjects import Subject
from chassis.bearer import bearing
from deploy.services import FRONTEND, NAMES
from deploy.stack import Stack
from loadgen import Load
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

BASELINES: Final = (1, 2, 3, 4)
ECHOES: Final = (1, 2)
# What is best on two cores, for a measurement that has no time to find out.
BASELINES_USUAL: Final = 2
ECHOES_USUAL: Final = 2
# HTTP is measured by itself.
PARTS: Final = tuple(name for name in NAMES if name != FRONTEND.name)
CORE: Final = ("seats", "hot-seat", "flash", "carts", "orders")
BY_NAME: Final = ("few", *NAMED)
SMOKE: Final = ("seats", "hot-seat")
SMOKE_SECONDS: Final = 3.0
CONNECTIONS: Final = 8
TIMEOUT_S: Final = 30.0
TRIAL_S: Final = 3.0
LONE_S: Final = 3.0
PGBENCH: Final = "pgbench"
DATABASE: Final = "baseline"
LATENCY_SCENARIO: Final = "seats"
# Of ten million tickets.
FSCK_TIMEOUT_S: Final = 1_800
_SQL: Final = Path(__file__).with_name("baseline.sql")
_FILE_COLUMNS: Final = 150

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)


@dataclass
class Bench:
    """The stack, the load generator, and everything measured so far."""

    stack: Stack
    program: Path
    public_office: PublicOffice
    say: Callable[[str], None]
    rounds: list[Round] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    @property
    def baseline_url(self) -> str:
        """Of the baseline's own database: fsck shall see only what TicketRush wrote."""
        return make_conninfo(self.stack.env["DATABASE_URL"], dbname=DATABASE)

    def office(self, subject: Subject) -> Office:
        """Where the events of a subject are made."""
        if "baseline" in subject.parts:
            return BackOffice(self.baseline_url)
        return NoOffice() if "echo" in subject.parts else self.public_office

    async def play(
        self,
        scenario: Scenario,
        subject: Subject,
        seconds: float,
        *,
        rate: float = 0,
        callers: int = IN_FLIGHT,
        tokens: Sequence[str] = (),
    ) -> Round:
        """One round: at that rate, or with so many callers. Without `tokens`, all are the operator."""
        office = self.office(subject)
        load_name = f"open, {rate:,.0f}/s" if rate else f"{callers} callers"
        self.say(f"{scenario.name}: {subject.name}, {load_name}")
        wanted = round(rate * seconds) if rate else scenario.errands
        load = Load(
            addresses=subject.addresses,
            methods=scenario.methods,
            requests=await scenario.requests(office, wanted),
            seconds=seconds,
            rate=rate,
            in_flight=callers,
            timeout_s=TIMEOUT_S,
            connections=CONNECTIONS,
            tokens=tokens or [self.stack.operator_token],
            ca=subject.ca,
            server_name=subjects.GATEWAY,
        )
        before = subject.spent()
        calls = [call async for call in loadgen.poured(self.program, load)]
        after = subject.spent()
        counted = [call for call in calls if scenario.counts(call)]
        steps = len(scenario.methods)
        begins = {call.number // steps: call.due_s for call in calls if call.number % steps == 0}
        took = sorted((call.end_s - begins[call.number // steps]) * 1e3 for call in counted)
        begin, end = min(call.due_s for call in calls), max(call.end_s for call in calls)
        return Round(
            scenario.name,
            subject.name,
            load_name,
            len(counted) / (end - begin),
            percentile(took, 50),
            percentile(took, 99),
            percentile(took, 99.9),
            dict(Counter(call.code for call in calls if call.code != "OK")),
            {name: (after[name].cpu_s - before[name].cpu_s) / max(1, len(counted)) * 1e6 for name in after},
            {name: after[name].resident_mb for name in after},
        )

    async def best(self, scenario: Scenario, make: Callable[[int], Subject], counts: Sequence[int]) -> int:
        """With how many processes the subject is fastest."""
        speeds: dict[int, float] = {}
        for count in counts:
            subject = make(count)
            try:
                speeds[count] = (await self.play(scenario, subject, TRIAL_S)).per_s
            finally:
                subject.stop()
        return max(speeds, key=speeds.__getitem__)

    async def compare(self, scenario: Scenario, rounds: int, seconds: float, *, smoke: bool) -> None:
        """All subjects, turn by turn, each with as many processes as suit it best."""
        others: list[Callable[[], Subject]] = []
        if scenario.compared:
            baselines = BASELINES_USUAL if smoke else await self.best(scenario, self._baseline, BASELINES)
            others.append(lambda: self._baseline(baselines))
        if scenario.name == LATENCY_SCENARIO:
            echoes = ECHOES_USUAL if smoke else await self.best(scenario, subjects.echo, ECHOES)
            others.append(lambda: subjects.echo(echoes))
        for _ in range(rounds):
            self.rounds.append(await self.play(scenario, subjects.ticketrush(self.stack), seconds))
            for make in others:
                subject = make()
                try:
                    self.rounds.append(await self.play(scenario, subject, seconds))
                finally:
                    subject.stop()
            if scenario.name == LATENCY_SCENARIO and not smoke:
                self.rounds.append(await self._pgbench(scenario, seconds))

    async def latency(self, rounds: int, seconds: float) -> None:
        """Of TicketRush, at half of its maximum, and of a call that is alone."""
        scenario, subject = SCENARIOS[LATENCY_SCENARIO], subjects.ticketrush(self.stack)
        ours = [one for one in self.rounds if (one.scenario, one.subject) == (scenario.name, subject.name)]
        half = statistics.median(one.per_s for one in ours) / 2
        for _ in range(rounds):
            self.rounds.append(await self.play(scenario, subject, seconds, rate=half))
            self.rounds.append(await self.play(scenario, subject, LONE_S, callers=1))

    def _baseline(self, processes: int) -> Subject:
        return subjects.baseline(self.stack, self.baseline_url, processes)

    async def _pgbench(self, scenario: Scenario, seconds: float) -> Round:
        self.say(f"{scenario.name}: {PGBENCH}")
        event_id, seats = await BackOffice(self.baseline_url).sale(scenario.errands)
        with psycopg.connect(self.baseline_url, options=SCHEMA, autocommit=True) as conn:
            conn.execute("TRUNCATE bench_seat")
            conn.execute("SELECT setval('bench_number', 1, false)")
            conn.execute(
                """INSERT INTO bench_seat
                   SELECT number, %s, seat FROM unnest(%s::uuid[]) WITH ORDINALITY AS numbered (seat, number)""",
                (event_id, seats),
            )
        statement = self.stack.run_dir / "pgbench.sql"
        statement.write_text("SELECT bench_next();\n")
        url = make_conninfo(self.baseline_url, options=SCHEMA)
        tps, mean_ms = await asyncio.to_thread(subjects.pgbench, url, statement, seconds)
        return Round(scenario.name, PGBENCH, f"{subjects.PGBENCH_CLIENTS} clients", tps, mean_ms, 0, 0)

    def fsck(self) -> bool:
        """Whether all invariants hold for what TicketRush wrote."""
        self.say("fsck")
        done = subprocess.run(
            [sys.executable, "-m", "cli", "fsck"],
            # There it finds .run/stack.env; our package is on the path wherever it is.
            cwd=self.stack.run_dir.parent,
            timeout=FSCK_TIMEOUT_S,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            console.print(done.stdout + done.stderr, markup=False)
        return done.returncode == 0


@app.command()
def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"Scenarios: {', '.join(CORE)} (all of these by default), {', '.join(BY_NAME)}."),
    ] = None,
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Of each subject, turn by turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Of a round.")] = 8.0,
    smoke: Annotated[bool, typer.Option(help="One short round of the most telling scenarios.")] = False,
    out: Annotated[Path, typer.Option(help="Where bench.json, .md and .svg go.")] = Path(".run/bench"),
) -> None:
    """Measure TicketRush beside its ceilings and its baseline; exits with 1 if fsck finds anything."""
    known = (*CORE, *BY_NAME)
    if unknown := [name for name in names or () if name not in known]:
        raise typer.BadParameter(f"there is no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    begin = time.monotonic()
    if smoke:
        names, rounds, seconds = names or list(SMOKE), 1, SMOKE_SECONDS
    bench, sound = asyncio.run(_measure(names or list(CORE), rounds, seconds, smoke=smoke))
    out.mkdir(parents=True, exist_ok=True)
    document = {"machine": _machine(), "sound": sound}
    document |= {"rounds": list(map(asdict, bench.rounds)), "figures": list(map(asdict, bench.figures))}
    (out / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "bench.md").write_text(markdown(bench.rounds) + "\n")
    write_svg(bench.rounds, out / "bench.svg")
    show(bench.rounds, console)
    for line in told(bench.figures):
        console.print(line)
    took_s = time.monotonic() - begin
    console.print(f"fsck {'clean' if sound else 'NOT CLEAN'}; {took_s:.0f} s; all of it in {out}/bench.json, .md, .svg")
    raise typer.Exit(0 if sound else 1)


async def _measure(names: Sequence[str], rounds: int, seconds: float, *, smoke: bool) -> tuple[Bench, bool]:
    with (
        console.status("a stack of its own") as status,
        tempfile.TemporaryDirectory(prefix="ticketrush-bench-") as place,
    ):
        stack = Stack(Path(place) / ".run")
        try:
            await asyncio.to_thread(stack.up, PARTS)
            with psycopg.connect(make_conninfo(stack.env["DATABASE_URL"], dbname="postgres"), autocommit=True) as conn:
                # Nobody may be connected to what is copied.
                stack.down(("reservations", "payments", "scheduler", "gateway"))
                conn.execute(f"CREATE DATABASE {DATABASE} TEMPLATE ticketrush")
            await asyncio.to_thread(stack.up, PARTS)
            program = await asyncio.to_thread(loadgen.build, stack.run_dir / "loadgen")
            line = grpc.aio.insecure_channel(stack.address("gateway"))
            async with bearing(line, stack.operator_token) as channel:
                office = PublicOffice(CatalogServiceStub(channel), TicketingServiceStub(channel))
                bench = Bench(stack, program, office, status.update)
                with psycopg.connect(bench.baseline_url, options=SCHEMA, autocommit=True) as conn:
                    conn.execute(_SQL.read_bytes())
                for name in names:
                    if name in NAMED:
                        bench.figures += await NAMED[name](bench, rounds, seconds)
                        continue
                    await bench.play(SCENARIOS[name], subjects.ticketrush(stack), TRIAL_S)
                    await bench.compare(SCENARIOS[name], rounds, seconds, smoke=smoke)
                    if name == LATENCY_SCENARIO:
                        await bench.latency(rounds, seconds)
                return bench, await asyncio.to_thread(bench.fsck)
        finally:
            await asyncio.to_thread(stack.clean)


def _machine() -> dict[str, str | int]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    cores, python = os.cpu_count() or 0, platform.python_version()
    return {"cpu": model, "cores": cores, "system": platform.platform(), "python": python}


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    app(prog_name="python -m bench")
