"""What the servers of the stack of several are told: that they take it, and that its times fit each other."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy import rabbitmq
from deploy.debian import program
from deploy.environment import ADMINISTRATOR_PASSWORD
from deploy.ha import balancer, etcd, patroni, table
from deploy.ha.etcd import Etcd
from deploy.process import Process
from deploy.services import FRONTEND, LOOPBACK, PROCESSES

PORTS = {name: 21_000 + number for number, name in enumerate(table.ports())}
SECRETS = {
    ADMINISTRATOR_PASSWORD: "the superuser's",
    patroni.REPLICATOR_PASSWORD: "the replicator's",
    patroni.PAGE_PASSWORD: "the page's",
}
# A machine of its own for each is what Patroni expects; that nobody answers yet is no fault of the file.
EXPECTED_COMPLAINTS = (
    "connect_address",
    "is not reachable",
    "pg_hba  is not defined",
    "authentication.rewind  is not defined",
    "unix_socket_directories",
)


def lines_of(door: str) -> list[str]:
    """What stands behind a door."""
    text = balancer.render("balancer-a", PORTS, None)
    [section] = [part for part in text.split("\nlisten ")[1:] if part.startswith(f"{door}\n")]
    return [line.strip() for line in section.splitlines() if line.strip().startswith("server ")]


@pytest.mark.parametrize("service", table.CALLED)
def test_both_processes_of_a_service_stand_behind_its_door(service: str) -> None:
    page = "" if service == FRONTEND.name else "_metrics"
    assert lines_of(service) == [
        f"server {name} {LOOPBACK}:{PORTS[name]} port {PORTS[f'{name}{page}']}"
        for name in (f"{service}-{side}" for side in table.SIDES)
    ]


def test_behind_the_door_of_the_database_only_the_primary_is_let_through() -> None:
    assert lines_of("postgres") == [
        f"server {name} {LOOPBACK}:{PORTS[name]} port {PORTS[f'{name}_patroni']}" for name in table.DATABASES
    ]
    assert "listen postgres" in balancer.render("balancer-b", PORTS, None)
    assert "option httpchk OPTIONS /primary" in balancer.render("balancer-b", PORTS, None)


def test_every_broker_stands_behind_the_door_of_the_brokers() -> None:
    assert lines_of("rabbitmq") == [
        f"server {name} {LOOPBACK}:{PORTS[name]} port {PORTS[f'{name}_management']}" for name in table.BROKERS
    ]


def test_both_balancers_are_at_the_same_doors() -> None:
    one, other = (balancer.render(name, PORTS, None) for name in table.BALANCERS)
    own = {name: f"{LOOPBACK}:{PORTS[name]}" for name in table.BALANCERS}
    assert one.replace("balancer-a", "X").replace(own["balancer-a"], "X") == other.replace("balancer-b", "X").replace(
        own["balancer-b"], "X"
    )


@pytest.mark.skipif(shutil.which(balancer.PROGRAM) is None, reason="no HAProxy here: make up-ha installs it")
def test_haproxy_takes_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "balancer.cfg"
    file.write_text(balancer.render("balancer-a", PORTS, None))
    told = subprocess.run([balancer.PROGRAM, "-c", "-f", file], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "WARNING" not in told.stderr


def configuration(tmp_path: Path) -> str:
    return patroni.render("postgres-a", tmp_path, Path("/usr/lib/postgresql/15/bin"), PORTS, SECRETS)


def test_patroni_takes_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "patroni.yml"
    file.write_text(configuration(tmp_path))
    program(patroni.Patroni.package, patroni.DEBIANS)
    command, variables = patroni.program(tmp_path)
    told = subprocess.run(
        [*command, "--validate-config", str(file)],
        capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **variables}, check=False,
    )  # fmt: skip
    complaints = [line for line in (told.stdout + told.stderr).splitlines() if line.strip()]
    assert [line for line in complaints if not any(known in line for known in EXPECTED_COMPLAINTS)] == []
    assert complaints, "it looked at nothing"


def test_a_commit_waits_for_the_standby_and_who_lacks_one_may_not_take_over(tmp_path: Path) -> None:
    settings = json.loads(configuration(tmp_path))["bootstrap"]["dcs"]
    assert settings["synchronous_mode"] is True
    # Whoever may take over has it all, so this bound decides nothing; a narrow one would only forbid a failover.
    assert settings["maximum_lag_on_failover"] >= 16 * 1024 * 1024


def test_the_times_of_a_failover_fit_each_other() -> None:
    assert patroni.LOOP_WAIT_S + 2 * patroni.RETRY_S <= patroni.TTL_S
    # An election takes up to twice its timeout; a primary that cannot renew its lock for longer gives it up.
    assert 2 * etcd.ELECTION_MS / 1_000 < patroni.RETRY_S
    assert etcd.ELECTION_MS >= 10 * etcd.HEARTBEAT_MS
    # P15, less what promotion and reconnecting take.
    assert patroni.TTL_S <= 25


def test_nobody_without_a_certificate_gets_at_etcd(tmp_path: Path) -> None:
    command = Etcd(Process("etcd-1", tmp_path), tmp_path, PORTS)._command()
    assert {"--client-cert-auth", "--peer-client-cert-auth"} <= set(command)
    assert [part for part in command if "http://" in part] == []
    [members] = [part for part in command if part.startswith("--initial-cluster=")]
    assert members.count("https://") == len(table.ETCDS)


def test_brokers_of_a_cluster_name_each_other_and_a_single_one_names_nobody(tmp_path: Path) -> None:
    ports = {"rabbitmq": 1, "rabbitmq_management": 2, "rabbitmq_metrics": 3}
    for peers in ((), table.BROKERS):
        rabbitmq._configure(tmp_path, ports, "secret", peers)
        text = (tmp_path / "rabbitmq.conf").read_text()
        assert [name for name in table.BROKERS if f" = {name}@localhost" in text] == list(peers)
        assert ("pause_minority" in text) == bool(peers)


def test_a_broker_that_misses_epmd_starts_none_of_its_own(tmp_path: Path) -> None:
    # It would hold the port of the one that is started again, and the others would not be found there.
    ports = {"epmd": 1, "rabbitmq_distribution": 2}
    assert rabbitmq._environment(tmp_path, tmp_path / "log", ports, "broker-1")["ERL_ZFLAGS"] == "-start_epmd false"


def test_whom_a_service_calls_has_a_door_or_is_there_once() -> None:
    called = {
        setting.removesuffix("_ADDRESS").lower()
        for service in PROCESSES
        for setting in service.settings
        if setting.endswith("_ADDRESS")
    }
    assert called <= {*table.CALLED, *table.ONCE}


def test_there_are_two_of_each_service_but_the_card_processor() -> None:
    for service in PROCESSES:
        assert len(table.of(service.name)) == (1 if service.name in table.ONCE else 2)


def test_every_port_has_an_owner_and_every_process_a_port() -> None:
    assert set(table.ports().values()) == set(table.NAMES)
    assert len(set(table.NAMES)) == len(table.NAMES)
