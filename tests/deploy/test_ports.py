"""Ports are chosen free, kept, and given up to whoever took them."""

import socket
import tempfile
from pathlib import Path

import pytest

from deploy import ports
from deploy.errors import StackError
from deploy.ports import Ports, is_free
from deploy.services import LOOPBACK


def test_chosen_ports_are_free_distinct_and_kept(tmp_path: Path) -> None:
    chosen = Ports(tmp_path).settle(["one", "two"], held=[])
    assert len(set(chosen.values())) == 2
    assert all(map(is_free, chosen.values()))
    assert Ports(tmp_path).settle(["one", "two"], held=[]) == chosen


def test_a_port_that_somebody_else_took_is_chosen_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_RELEASE_DEADLINE_S", 0.0)
    before = Ports(tmp_path).settle(["one", "two"], held=[])
    with socket.create_server((LOOPBACK, before["one"])):
        after = Ports(tmp_path).settle(["one", "two"], held=[])
    assert after["one"] != before["one"]
    assert after["two"] == before["two"]


def test_a_preferred_port_is_taken_if_it_is_free_and_another_if_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "_RELEASE_DEADLINE_S", 0.0)
    with socket.create_server((LOOPBACK, 0)) as stranger:
        wish = {"one": stranger.getsockname()[1]}
        taken = Ports(tmp_path / "taken").settle(["one", "two"], held=[], preferred=wish)
        assert taken["one"] != wish["one"]
    assert Ports(tmp_path / "free").settle(["one"], held=[], preferred=wish) == wish
    # Once chosen, it stays.
    assert Ports(tmp_path / "taken").settle(["one", "two"], held=[], preferred=wish) == taken


def test_what_another_stack_has_chosen_and_does_not_listen_on_yet_is_left_to_it_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with socket.create_server((LOOPBACK, 0)) as stranger:
        only = stranger.getsockname()[1]
    monkeypatch.setattr(ports, "_RANGE", range(only, only + 1))
    assert Ports(tmp_path / "one").settle(["one"], held=[]) == {"one": only}
    with pytest.raises(StackError, match="no free port"):
        Ports(tmp_path / "other").settle(["one"], held=[])
    monkeypatch.setattr(ports, "CLAIM_S", 0.0)
    assert Ports(tmp_path / "other").settle(["one"], held=[]) == {"one": only}


def test_a_port_that_is_held_by_us_is_kept(tmp_path: Path) -> None:
    before = Ports(tmp_path).settle(["one"], held=[])
    with socket.create_server((LOOPBACK, before["one"])):
        assert Ports(tmp_path).settle(["one"], held=["one"]) == before


def test_no_port_is_one_that_outgoing_connections_take() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert ports._RANGE.stop <= lowest
