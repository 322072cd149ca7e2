"""What is broken of several of everything: each process once, and whatever is broken of one of each."""

from pathlib import Path
from random import Random

import pytest

from chaos import several_faults as faults
from chaos.cells import CELLS
from chaos.faults import Scene
from chaos.record import Record
from chaos.several import HaSystem
from chaos.several_cells import FAILOVER_MAX_S, HA_CELLS, OWN
from chaos.system import SERVERS, SERVICE_NAMES, System
from deploy.ha import table


def test_every_process_there_is_gets_killed() -> None:
    assert {*faults.SERVERS_ONE_BY_ONE, *faults.SERVICES_ONE_BY_ONE} == set(table.NAMES)


def test_what_breaks_one_of_each_breaks_several_too() -> None:
    left_out = CELLS.keys() - HA_CELLS.keys()
    assert left_out == {"overload", "overload-seats", "rolling-restart"}
    assert "ha-rolling-restart" in OWN


def test_a_failover_that_takes_longer_than_promised_is_a_broken_promise() -> None:
    timed = [cell for cell in OWN.values() if faults.FAILOVER_S in cell.bounds]
    assert {cell.name for cell in timed} == {"ha-kill-primary", "ha-kill-postgres", "ha-kill-patroni"}
    assert {cell.bounds[faults.FAILOVER_S] for cell in timed} == {(0.0, FAILOVER_MAX_S)}
    assert FAILOVER_MAX_S == 40


def test_what_needs_several_is_refused_by_one_of_each(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="ha-kill-primary needs several"):
        faults.several(Scene(System(tmp_path), Random("seed"), Record(), "ha-kill-primary"))


async def test_a_service_is_both_its_processes_and_one_of_each_only_itself(tmp_path: Path) -> None:
    several, one = HaSystem(tmp_path), System(tmp_path)
    assert await several.parts_of("gateway") == ["gateway-a", "gateway-b"]
    assert await several.parts_of("provider") == ["provider"]
    assert await several.parts_of("broker-2") == ["broker-2"]
    for name in (*SERVERS, *SERVICE_NAMES):
        assert await one.parts_of(name) == [name]


async def test_while_nobody_answers_each_database_and_broker_is_named_all_the_same(tmp_path: Path) -> None:
    several = HaSystem(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ports.json").write_text('{"postgres-a_patroni": 1, "postgres-b_patroni": 1}')
    assert sorted(await several.parts_of("postgres")) == list(table.DATABASES)
