"""The command as organisers, buyers and tired people type it, on the product at work."""

import asyncio
import json
import os
import re
import shlex
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deploy import issuer
from tests.e2e.house import House
from tests.e2e.office import Office, eventually
from tests.e2e.screen import CTRL_C, Screen
from tests.ops.desk import ENTRY, Desk
from ticketrush.v1 import catalog_pb2 as catalog

UNKNOWN = "00000000-0000-8000-8000-0000000000f1"
WITHIN_S = 60

pytestmark = pytest.mark.usefixtures("the_books_balance")


@pytest.fixture(scope="session")
def environment(house: House) -> Mapping[str, str]:
    """What the command is told: where the gateway is, and an operator's token."""
    ours = {
        "TICKETRUSH_GATEWAY_ADDRESS": house.stack.address("gateway"),
        "TICKETRUSH_TOKEN": house.stack.operator_token,
    }
    return {name: value for name, value in os.environ.items() if not name.startswith("TICKETRUSH_")} | ours


@pytest.fixture(scope="session")
def desk(house: House) -> Desk:
    return Desk({"GATEWAY_ADDRESS": house.stack.address("gateway"), "TOKEN": house.stack.operator_token})


def desk_of(house: House, role: str, subject: str) -> Desk:
    """Where somebody types who is no operator."""
    token = issuer.token(house.stack.run_dir / "issuer/key.pem", subject, [role], 600)
    return Desk({"GATEWAY_ADDRESS": house.stack.address("gateway"), "TOKEN": token})


@asynccontextmanager
async def running(environment: Mapping[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command with its output in pipes, ended at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENTRY, *arguments, env=environment, stdout=PIPE, stderr=PIPE, cwd="/"
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def screen(environment: Mapping[str, str], *arguments: str, columns: int = 80) -> AsyncIterator[Screen]:
    shown = Screen(arguments, environment, columns=columns)
    try:
        yield shown
    finally:
        shown.close()


async def line_of(process: asyncio.subprocess.Process) -> str:
    """The next line that it prints, without its time."""
    assert process.stdout
    return (await process.stdout.readline()).decode().rstrip("\n").partition("  ")[2]


async def interrupted(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Ctrl-C: the exit code, and what it said of it."""
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    return process.returncode, said.decode()


async def test_the_tickets_of_an_event_are_watched_line_by_line(environment: Mapping[str, str], office: Office) -> None:
    sale = await office.put_on_sale(2)
    async with running(environment, "tickets", "watch", sale.event_id) as watch:
        assert await line_of(watch) == "stalls: 2 available"
        held = await office.held(sale, "ada")
        assert await line_of(watch) == f"stalls 1/1  HELD  was available  {sale.tickets[0]}"
        await office.pay(held)
        assert await line_of(watch) == f"stalls 1/1  SOLD  was held  {sale.tickets[0]}"
        assert await interrupted(watch) == (130, "")


async def test_a_reservation_is_watched_until_ctrl_c(environment: Mapping[str, str], office: Office) -> None:
    held = await office.held(await office.put_on_sale(), "ada")
    async with running(environment, "watch", held.reservation_id) as watch:
        assert await line_of(watch) == "HELD"
        assert await interrupted(watch) == (130, "")


async def test_a_table_on_a_narrow_terminal_stays_current(environment: Mapping[str, str], office: Office) -> None:
    sale = await office.put_on_sale(3)
    plain = {**environment, "NO_COLOR": "1"}
    async with screen(plain, "tickets", "watch", sale.event_id, columns=40) as shown:
        await asyncio.to_thread(shown.read_until, "Ctrl-C ends")
        await office.held(sale, "ada")
        await asyncio.to_thread(shown.read_until, "stalls 1/1  HELD")
        assert re.search(r"stalls +2 +1 +0", shown.text)
        shown.press(CTRL_C)
        assert await asyncio.to_thread(shown.ended) == 130
    assert "Traceback" not in shown.text
    assert max(len(line) for line in shown.text.splitlines()) <= 40
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown.shown), "colours, in spite of NO_COLOR"


async def test_ids_are_whole_on_a_narrow_terminal(environment: Mapping[str, str], office: Office) -> None:
    held = await office.held(await office.put_on_sale(), "narrow")
    async with screen(environment, "orders", "--buyer", "narrow", columns=50) as shown:
        assert await asyncio.to_thread(shown.ended) == 0
    assert held.reservation_id in shown.text
    assert held.event_id in shown.text


async def test_orders_are_of_a_buyer_of_an_event_in_a_state(desk: Desk, office: Office) -> None:
    sale, other = await office.put_on_sale(3), await office.put_on_sale()
    held = await office.held(sale, "olaf", sale.tickets[:1])
    bought = await office.buy(sale, "olaf", sale.tickets[1:2])
    elsewhere = await office.held(other, "olaf")
    stranger = await office.held(sale, "olga", sale.tickets[2:])

    async def listed(*options: str) -> list[str]:
        typed = await desk.type("orders", *options, "--json")
        assert typed.code == 0, typed
        return [json.loads(line)["reservation_id"] for line in typed.out.splitlines()]

    both, mine = ("--event", sale.event_id), ("--buyer", "olaf")
    newest_first = [stranger, bought, held]
    assert await listed(*both) == [one.reservation_id for one in newest_first]
    assert await listed(*mine) == [one.reservation_id for one in (elsewhere, bought, held)]
    assert await listed(*both, *mine, "--state", "held") == [held.reservation_id]
    assert await listed(*both, "--limit", "1") == [stranger.reservation_id]
    typed = await desk.type("orders", *both)
    assert typed.code == 0
    assert [line.split()[0] for line in typed.out.splitlines()[1:]] == [one.reservation_id for one in newest_first]


async def test_a_buyer_lists_his_own_orders_and_is_told_about_others(house: House, office: Office) -> None:
    held = await office.held(await office.put_on_sale(), "bea")
    bea = desk_of(house, "buyer", "bea")
    typed = await bea.type("orders", "--buyer", "bea", "--json")
    assert (typed.code, json.loads(typed.out)["reservation_id"]) == (0, held.reservation_id)
    refused = await bea.type("orders")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("NOT_ALLOWED: buyer_id must be the subject of the caller's token")


async def test_nobody_has_to_read_the_whole_list(environment: Mapping[str, str], office: Office) -> None:
    sale = await office.put_on_sale(3)
    for number in range(3):
        await office.held(sale, f"pipe-{number}", sale.tickets[number : number + 1])
    command = shlex.join([sys.executable, "-c", ENTRY, "orders", "--event", sale.event_id, "--json"])
    # Its reader is gone before it has begun to write.
    script = f"set -o pipefail; {command} | true"
    shell = await asyncio.create_subprocess_exec(
        "bash", "-c", script, env=environment, stdout=PIPE, stderr=PIPE, cwd="/"
    )
    async with asyncio.timeout(WITHIN_S):
        _, said = await shell.communicate()
    assert (shell.returncode, said) == (141, b"")


async def test_an_event_is_changed_closed_and_called_off(desk: Desk, office: Office) -> None:
    sale = await office.put_on_sale()
    changes = ("--name", "Macbeth", "--hold", "90s", "--sale-ends", "2099-01-01T00:00Z")
    changed = await desk.look("event", "update", sale.event_id, *changes)
    assert (changed["name"], changed["hold_duration"]) == ("Macbeth", "90s")
    assert changed["sale_end_time"] == "2099-01-01T00:00:00Z"
    again = await desk.look("event", "update", sale.event_id, "--sale-ends", "none")
    assert ("sale_end_time" in again, again["name"]) == (False, "Macbeth")
    wrong = await desk.type("event", "update", sale.event_id, "--hold", "2d")
    assert wrong.code == 2
    assert wrong.err.startswith("INVALID_ARGUMENT: event.hold_duration ")

    assert (await desk.look("event", "close", sale.event_id))["state"] == "STATE_CLOSED"
    refused = await desk.type("reserve", sale.event_id, "--buyer", "late", "--ticket", sale.tickets[0])
    assert (refused.code, "EVENT_CLOSED" in refused.out) == (1, True)

    called_off = await desk.look("event", "cancel", sale.event_id, "--reason", "the lead is ill")
    assert called_off["state"] == "STATE_CANCELLED"
    too_late = await desk.type("event", "update", sale.event_id, "--name", "Hamlet")
    assert (too_late.code, too_late.out) == (1, "")
    assert too_late.err.startswith("EVENT_CANCELLED: ")


@pytest.mark.parametrize(("answer", "code", "state"), [("n", 1, "STATE_OPEN"), ("y", 0, "STATE_CANCELLED")])
async def test_a_person_is_asked_before_an_event_is_called_off(
    environment: Mapping[str, str], office: Office, answer: str, code: int, state: str
) -> None:
    sale = await office.put_on_sale(2)
    await office.held(sale, "ada")
    async with screen(environment, "event", "cancel", sale.event_id, "--reason", "ill") as shown:
        await asyncio.to_thread(shown.read_until, "[y/N]")
        assert "Call off Hamlet (1 tickets held, 0 sold)" in shown.text.replace("\n", " ")
        shown.press(f"{answer}\n")
        assert await asyncio.to_thread(shown.ended) == code
    assert catalog.Event.State.Name((await office.event(sale.event_id)).state) == state


async def test_a_sale_is_taken_back_once_it_is_one(desk: Desk, office: Office) -> None:
    held = await office.held(await office.put_on_sale(), "ada")
    refused = await desk.type("refund", held.reservation_id, "--reason", "broken")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("NOT_CONFIRMED: only a CONFIRMED reservation can be refunded, this one is HELD. ")
    await office.pay(held)
    answer = (await desk.look("refund", held.reservation_id, "--reason", "broken"))["reservation"]
    assert answer["state"] == "STATE_CANCELLED"
    back = await office.until(held, lambda now: not now.refund_due_minor)
    assert back.refunded_minor == back.total_minor


async def test_a_small_load_holds_tickets_and_leaves_no_event_on_sale(desk: Desk, office: Office) -> None:
    typed = await desk.type("load", "--seconds", "2", "--buyers", "4", "--json")
    assert typed.code == 0, typed
    told = typed.answer
    assert told["outcomes"]["HELD"] > 0
    assert told["reservations_per_s"] > 0
    assert 0 < told["p50_ms"] <= told["p99_ms"]
    assert (await office.event(told["event_id"])).state == catalog.Event.STATE_CANCELLED

    async def nothing_is_held() -> bool:
        return (await office.counts(told["event_id"]))[1] == 0

    await eventually(nothing_is_held)


async def test_a_load_on_a_small_event_says_that_it_is_sold_out(desk: Desk, office: Office) -> None:
    sale = await office.put_on_sale(3)
    told = (await desk.type("load", sale.event_id, "--seconds", "1", "--buyers", "2", "--json")).answer
    assert told["outcomes"]["HELD"] == 3
    assert told["outcomes"]["REJECTED SOLD_OUT"] > 0
    assert await office.counts(sale.event_id) == (0, 3, 0)


async def test_a_load_is_ended_by_ctrl_c_with_its_figures(environment: Mapping[str, str], office: Office) -> None:
    async with running(environment, "load", "--seconds", "60", "--buyers", "2") as load:
        assert load.stdout
        assert b"reservations/s" in await load.stdout.readline()
        load.send_signal(signal.SIGINT)
        rest, said = await load.communicate()
        assert (load.returncode, said) == (130, b"")
        assert b"reservations/s" in rest.splitlines()[-1]
    newest = (await office.catalog.ListEvents(catalog.ListEventsRequest(page_size=1))).events[0]
    assert (newest.name, newest.state) == ("a load", catalog.Event.STATE_CANCELLED)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (("tickets", "watch", UNKNOWN), "UNKNOWN_EVENT"),
        (("tickets", "list", UNKNOWN), "UNKNOWN_EVENT"),
        (("event", "update", UNKNOWN, "--name", "x"), "UNKNOWN_EVENT"),
        (("event", "close", UNKNOWN), "UNKNOWN_EVENT"),
        (("event", "cancel", UNKNOWN, "--reason", "x"), "UNKNOWN_EVENT"),
        (("load", UNKNOWN), "UNKNOWN_EVENT"),
        (("watch", UNKNOWN), "UNKNOWN_RESERVATION"),
        (("refund", UNKNOWN, "--reason", "x"), "UNKNOWN_RESERVATION"),
    ],
)
async def test_an_id_that_nothing_has_is_told_in_a_line(desk: Desk, typed: tuple[str, ...], reason: str) -> None:
    refused = await desk.type(*typed)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(f"{reason}: there is no ")
    assert refused.err.count("\n") == 1


COMMANDS: Any = [
    ("orders",),
    ("tickets", "watch", UNKNOWN),
    ("event", "close", UNKNOWN),
    ("refund", UNKNOWN, "--reason", "x"),
    ("load",),
]


@pytest.mark.parametrize("typed", COMMANDS)
async def test_without_a_token_it_says_where_one_comes_from(desk: Desk, typed: tuple[str, ...]) -> None:
    refused = await desk.without("TOKEN").type(*typed)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("TOKEN_MISSING: ")
    assert "TICKETRUSH_TOKEN" in refused.err


@pytest.mark.parametrize("typed", COMMANDS)
async def test_without_a_stack_it_says_what_starts_one(typed: tuple[str, ...]) -> None:
    refused = await Desk({"GATEWAY_ADDRESS": "127.0.0.1:1", "TOKEN": "any"}).type(*typed)
    assert (refused.code, refused.out) == (3, "")
    assert refused.err.startswith("No answer from 127.0.0.1:1 (UNAVAILABLE). `make up` starts it")
    assert refused.err.count("\n") == 1


async def test_tab_offers_the_events_that_there_are(environment: Mapping[str, str], office: Office) -> None:
    sale = await office.put_on_sale()

    async def offered(words: str, **told: str) -> list[str]:
        asked = {"_TICKETRUSH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        entry = "from cli.__main__ import app; app(prog_name='ticketrush')"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", entry, env={**environment, **asked, **told}, stdout=PIPE, stderr=PIPE, cwd="/"
        )
        async with asyncio.timeout(WITHIN_S):
            out, said = await process.communicate()
        assert said == b""
        return out.decode().split()

    assert await offered(f"ticketrush event close {sale.event_id[:-1]}") == [sale.event_id]
    assert await offered(f"ticketrush orders --event {sale.event_id[:-1]}") == [sale.event_id]
    assert await offered("ticketrush orders --state e") == ["expired"]
    assert await offered("ticketrush fs") == ["fsck"]
    assert await offered("ticketrush event close ", TICKETRUSH_GATEWAY_ADDRESS="127.0.0.1:1") == []
