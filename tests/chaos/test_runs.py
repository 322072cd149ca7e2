"""Cells and reports: what there is to break, what a run must have seen, and what the seed decides."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from xml.etree import ElementTree as ET

from chaos import paths
from chaos.books import Step
from chaos.cells import CELLS, SMOKE
from chaos.picture import write_svg
from chaos.record import Answer, Request
from chaos.report import Run, write_json
from chaos.result import Result
from chaos.sale import PATIENT, Sale, drawn_id
from chaos.system import links
from tests.chaos.honest import EXPIRED, SOLD, evidence

PARTS = ("gateway", "reservations", "payments", "scheduler", "provider", "broker", "database")


def test_every_part_is_killed_and_paused_for_short_and_for_long() -> None:
    assert {f"{fault}-{part}" for fault in ("kill", "pause5", "pause30") for part in PARTS} <= CELLS.keys()
    assert {f"blackhole-{part}" for part in PARTS} <= CELLS.keys()
    assert set(SMOKE) <= CELLS.keys()


def test_every_address_that_a_service_is_given_is_a_link_that_can_be_broken() -> None:
    assert {(caller, callee) for caller, callee, _ in links()} == {
        ("clients", "gateway"),
        *((service, "rabbitmq") for service in ("gateway", "reservations", "payments", "scheduler")),
        *((service, "postgres") for service in ("reservations", "payments", "scheduler")),
        ("gateway", "reservations"),
        ("gateway", "payments"),
        ("payments", "reservations"),
        ("payments", "provider"),
        ("scheduler", "payments"),
    }


def test_a_run_that_took_none_of_a_required_path_fails_and_says_so() -> None:
    result = Result("calm", "nothing breaks", paths=Counter({paths.REVIVAL: 2}))
    assert not Run("1", [result], {paths.REVIVAL}).problems
    [problem] = Run("1", [result], {paths.REVIVAL, paths.RELAY}).problems
    assert paths.RELAY in problem


def test_rare_paths_are_counted_from_history_and_from_what_clients_saw() -> None:
    run = evidence()
    # Revived: expired, then sold by a charge that landed late. Approved too late: money that must go back.
    run.books.steps = [
        *run.books.steps,
        Step(EXPIRED, 3, "SOLD", 3.0),
        Step(EXPIRED, 4, "MONEY_CHANGED", 4.0, refund_due_minor=100),
    ]
    # Unanswered, and committed before it was said again.
    unheard = Request("Reserve", f"wish of {SOLD}", f"{SOLD}'s buyer", "event", "cell")
    unheard.answers += [Answer(0.5, 5.5, "DEADLINE_EXCEEDED"), Answer(6.0, 6.1, "OK")]
    run.record.requests.append(unheard)
    counted = paths.taken(run, Counter({"ticketrush_outbox_relayed_messages_total": 3}))
    assert +counted == {
        paths.REVIVAL: 1,
        paths.LATE_APPROVAL: 1,
        paths.UNKNOWN_COMMIT: 1,
        paths.DUPLICATE: 1,
        paths.RELAY: 3,
    }


def test_the_seed_decides_what_buyers_ask_for() -> None:
    def day(seed: str) -> list[object]:
        random = Random(seed)
        sale = Sale("event", PATIENT, [f"seat-{number:04}" for number in range(PATIENT.seats)])
        return [(drawn_id(random), sale.pick(random, 2)) for _ in range(5)]

    assert day("1/calm/7") == day("1/calm/7") != day("2/calm/7")


def test_buyers_look_at_the_foremost_seats_that_are_not_sold() -> None:
    seats = [f"seat-{number:04}" for number in range(PATIENT.seats)]
    sale = Sale("event", PATIENT, seats, sold=set(seats[:50]))
    seen = {seat for _ in range(2_000) for seat in sale.pick(Random(_), 3)}
    assert seen == set(seats[50 : 50 + PATIENT.window])


def test_a_run_is_told_to_machines_and_drawn(tmp_path: Path) -> None:
    kept = Result("calm", "nothing breaks", recovery_s=0.5, closed_s=1.0, paths=Counter({paths.REVIVAL: 1}))
    broken = replace(kept, cell="kill <gateway>", recovery_s=None, violations=["a promise: broken"])
    run = Run("1", [kept, broken, replace(kept, cell="not played", skipped="no tool")], {paths.REVIVAL})
    write_json(run, tmp_path / "chaos.json")
    write_svg(run, tmp_path / "chaos.svg")
    told = json.loads((tmp_path / "chaos.json").read_text())
    assert (told["kept"], told["problems"]) == (False, ["kill <gateway>: a promise: broken"])
    assert [cell["cell"] for cell in told["cells"]] == ["calm", "kill <gateway>", "not played"]
    drawn = "".join(ET.fromstring((tmp_path / "chaos.svg").read_text()).itertext())
    assert "kill <gateway>" in drawn
    assert "not played" not in drawn
