"""Every process of the cluster: kept small, asked how it is, ended in order, and never all of one kind at once."""

import re
from collections.abc import Sequence
from typing import Final

import pytest

from chassis.probes import LIVE
from chassis.run import STOP_TIMEOUT_S
from deploy.services import FRONTEND, PROCESSES, SERVICES
from tests.kubernetes.objects import WORKLOADS, containers_of, environment_of, labels_of, main_of, of_kind, pod_of
from tests.kubernetes.render import ROOT, Object

PROVIDER: Final = "provider"
PRODUCTION: Final = {process.name for process in PROCESSES} - {PROVIDER}
LABEL: Final = "app.kubernetes.io/name"
ZONE: Final = "topology.kubernetes.io/zone"


def test_what_runs_is_the_table_and_the_simulated_processor_only_where_it_is_asked_for(
    base: Sequence[Object], highly_available: Sequence[Object], trial: Sequence[Object]
) -> None:
    assert of_kind(base, "Deployment").keys() == of_kind(highly_available, "Deployment").keys() == PRODUCTION
    assert of_kind(trial, "Deployment").keys() == PRODUCTION | {PROVIDER}


def test_each_runs_as_its_own_module(trial: Sequence[Object]) -> None:
    deployments = of_kind(trial, "Deployment")
    for service in SERVICES:
        assert main_of(deployments[service.name])["command"] == ["python", "-m", service.name]
    assert "command" not in main_of(deployments[FRONTEND.name])


def test_no_container_may_more_than_it_must(trial: Sequence[Object]) -> None:
    for name, workload in of_kind(trial, *WORKLOADS).items():
        pod = pod_of(workload)
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        assert not any(pod.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")), name
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 10001, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers_of(workload):
            assert container["securityContext"] == {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_each_container_has_requests_and_limits(trial: Sequence[Object]) -> None:
    for name, workload in of_kind(trial, *WORKLOADS).items():
        for container in containers_of(workload):
            resources = container["resources"]
            assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}, name


def test_the_memory_is_what_was_measured_and_some_for_what_was_not(trial: Sequence[Object]) -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    measured: dict[str, int] = {}
    for name, most_mb in re.findall(r"(\w+) \d+ us \((\d+) MB\)", text):
        measured[name] = max(measured.get(name, 0), int(most_mb))
    for name, deployment in of_kind(trial, "Deployment").items():
        if name != FRONTEND.name:
            resources = main_of(deployment)["resources"]
            asked, limit = (int(resources[kind]["memory"].removesuffix("Mi")) for kind in ("requests", "limits"))
            assert measured[name] <= asked, name
            assert 2 * measured[name] <= limit, name


def test_a_grpc_service_is_asked_where_it_needs_no_certificate_and_lives_whatever_it_waits_for(
    trial: Sequence[Object],
) -> None:
    deployments = of_kind(trial, "Deployment")
    for service in SERVICES:
        main = main_of(deployments[service.name])
        port = int(environment_of(main)["TICKETRUSH_HEALTH_ADDRESS"].rpartition(":")[2])
        assert port not in {service.port, service.metrics_port}
        assert main["livenessProbe"]["grpc"] == main["startupProbe"]["grpc"] == {"port": port, "service": LIVE}
        assert main["readinessProbe"]["grpc"] == {"port": port}


def test_the_http_front_is_asked_by_http(base: Sequence[Object]) -> None:
    main = main_of(of_kind(base, "Deployment")[FRONTEND.name])
    asked = {"port": "https", "scheme": "HTTPS"}
    assert main["livenessProbe"]["httpGet"] == main["startupProbe"]["httpGet"] == {**asked, "path": "/healthz"}
    assert main["readinessProbe"]["httpGet"] == {**asked, "path": "/readyz"}


def test_a_process_is_ended_after_nobody_sends_it_anything_and_has_the_time_that_it_takes(
    trial: Sequence[Object],
) -> None:
    go = dict(re.findall(r"^\t(stopTimeout|giveUpTimeout) += (?:(\d+) \* )?time\.Second", _go(), re.MULTILINE))
    ends_s = max(STOP_TIMEOUT_S, sum(int(seconds or 1) for seconds in go.values()))
    assert go.keys() == {"stopTimeout", "giveUpTimeout"}
    for name, deployment in of_kind(trial, "Deployment").items():
        sleep_s = main_of(deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert sleep_s >= 5, name
        assert pod_of(deployment)["terminationGracePeriodSeconds"] >= sleep_s + ends_s + 5, name


def test_a_selector_finds_its_own_pods_and_no_others(trial: Sequence[Object]) -> None:
    for name, deployment in of_kind(trial, "Deployment").items():
        assert deployment["spec"]["selector"]["matchLabels"] == {LABEL: name}
        assert labels_of(deployment)[LABEL] == name
    for name, service in of_kind(trial, "Service").items():
        assert service["spec"]["selector"] == {LABEL: name}


@pytest.mark.parametrize("name", sorted(PRODUCTION))
def test_it_is_spread_over_zones_and_hosts_and_never_taken_away_whole(
    name: str, highly_available: Sequence[Object]
) -> None:
    deployment = of_kind(highly_available, "Deployment")[name]
    spread = {one["topologyKey"]: one for one in pod_of(deployment)["topologySpreadConstraints"]}
    assert spread.keys() == {ZONE, "kubernetes.io/hostname"}
    assert spread[ZONE]["whenUnsatisfiable"] == "DoNotSchedule"
    for one in spread.values():
        assert one["maxSkew"] == 1
        # Counted among its own only: another service's pods say nothing of where these should go.
        assert LABEL in one["matchLabelKeys"]
        assert one["labelSelector"]["matchLabels"].items() <= labels_of(deployment).items()
    budget = of_kind(highly_available, "PodDisruptionBudget")[name]["spec"]
    assert budget["selector"]["matchLabels"] == {LABEL: name}
    assert budget["maxUnavailable"] == 1


def test_the_servers_survive_the_loss_of_a_zone(highly_available: Sequence[Object]) -> None:
    [database] = of_kind(highly_available, "Cluster").values()
    assert database["spec"]["instances"] == 3
    synchronous = database["spec"]["postgresql"]["synchronous"]
    assert (synchronous["number"], synchronous["dataDurability"]) == (1, "required")
    assert database["spec"]["affinity"]["topologyKey"] == ZONE
    [broker] = of_kind(highly_available, "RabbitmqCluster").values()
    assert broker["spec"]["replicas"] == 3
    pod = broker["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]
    assert [one["topologyKey"] for one in pod["topologySpreadConstraints"]] == [ZONE]
    # What the base says beside it is still there.
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert of_kind(highly_available, "PodDisruptionBudget")["rabbitmq"]["spec"]["maxUnavailable"] == 1


def _go() -> str:
    return (ROOT / "frontend" / "main.go").read_text()
