"""What the shell offers in the place of an event's id."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest
import typer
from typer.main import get_command

from cli import completion
from cli.__main__ import app
from tests.cli.conftest import SERVICES
from ticketrush.v1 import catalog_pb2 as catalog

EVENT = "00000000-0000-8000-8000-0000000000e1"
OTHER = "10000000-0000-8000-8000-0000000000e1"


class Tab:
    """Tab is pressed behind `event show`; the test plays the gateway."""

    def __init__(self, channel: Any, threads: ThreadPoolExecutor) -> None:
        self._channel = channel
        self._threads = threads

    def press(self, typed: str, events: list[catalog.Event], code: grpc.StatusCode = grpc.StatusCode.OK) -> Any:
        context: Any = typer.Context(get_command(app))
        offered = self._threads.submit(completion.event_ids, context, typed)
        method = SERVICES["CatalogService"].methods_by_name["ListEvents"]
        _, _, call = self._channel.take_unary_unary(method)
        call.send_initial_metadata(())
        call.terminate(catalog.ListEventsResponse(events=events), (), code, "")
        return offered.result(20)


@pytest.fixture
def tab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tab]:
    channel = grpc_testing.channel(SERVICES.values(), grpc_testing.strict_real_time())
    monkeypatch.setattr(completion, "dial", lambda _address: channel)
    with ThreadPoolExecutor(max_workers=1) as threads:
        yield Tab(channel, threads)


def event(event_id: str, name: str = "Hamlet") -> catalog.Event:
    return catalog.Event(event_id=event_id, name=name)


def test_events_are_offered_by_their_beginning_with_their_names(tab: Tab) -> None:
    assert tab.press("", [event(EVENT), event(OTHER, "Proms")]) == [(EVENT, "Hamlet"), (OTHER, "Proms")]
    assert tab.press("1", [event(EVENT), event(OTHER, "Proms")]) == [(OTHER, "Proms")]


def test_a_name_that_a_shell_would_act_upon_is_made_harmless(tab: Tab) -> None:
    [(_, name)] = tab.press("", [event(EVENT, "$(reboot) `x` \"'; \\ \x1b[2J: Bühne")])
    assert set(name) <= set("rebotx2JBühne _,.-")


def test_what_is_no_id_is_not_offered(tab: Tab) -> None:
    assert tab.press("", [event("$(reboot)")]) == []


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED])
def test_a_gateway_that_does_not_answer_offers_nothing(tab: Tab, code: grpc.StatusCode) -> None:
    assert tab.press("", [], code) == []


def test_an_address_that_is_none_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETRUSH_GATEWAY_ADDRESS", "zzz")
    context: Any = typer.Context(get_command(app))
    assert completion.event_ids(context, "") == []
