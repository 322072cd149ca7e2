"""What grows, by what, and how far the database lets it."""

from collections.abc import Sequence
from typing import Final

from contract.keys import PAYMENTS_QUEUES, RESERVATIONS_QUEUES
from deploy.services import FRONTEND
from scheduler.__main__ import CONNECTIONS_MAX
from tests.kubernetes.objects import of_kind
from tests.kubernetes.render import Object

QUEUES: Final = {"reservations": RESERVATIONS_QUEUES, "payments": PAYMENTS_QUEUES}
# chassis/database.py: what a service has that does not say otherwise.
CONNECTIONS_A_PROCESS: Final = 8


def test_consumers_grow_with_each_of_their_queues(highly_available: Sequence[Object]) -> None:
    scaled = of_kind(highly_available, "ScaledObject")
    assert scaled.keys() == QUEUES.keys()
    for name, queues in QUEUES.items():
        spec = scaled[name]["spec"]
        assert spec["scaleTargetRef"] == {"name": name}
        assert spec["minReplicaCount"] >= 2
        triggers = spec["triggers"]
        shards = int(of_kind(highly_available, "ConfigMap")["settings"]["data"]["shards"])
        names = [queue.shard(number) for queue in queues for number in range(shards)]
        assert [one["metadata"]["queueName"] for one in triggers] == names
        # One more than there are shards would only stand by.
        assert spec["maxReplicaCount"] <= shards
        assert {(one["type"], one["metadata"]["mode"]) for one in triggers} == {("rabbitmq", "QueueLength")}
        assert {one["authenticationRef"]["name"] for one in triggers} <= of_kind(
            highly_available, "TriggerAuthentication"
        ).keys()


def test_the_doors_grow_with_their_cpu(highly_available: Sequence[Object]) -> None:
    scaled = of_kind(highly_available, "HorizontalPodAutoscaler")
    assert scaled.keys() == {"gateway", FRONTEND.name}
    for name, scaler in scaled.items():
        assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert scaler["spec"]["minReplicas"] >= 2
        [metric] = scaler["spec"]["metrics"]
        assert metric["resource"]["name"] == "cpu"


def test_who_is_scaled_is_not_told_how_many_at_every_apply(highly_available: Sequence[Object]) -> None:
    deployments = of_kind(highly_available, "Deployment")
    scaled = of_kind(highly_available, "ScaledObject", "HorizontalPodAutoscaler")
    assert {
        name for name, one in deployments.items() if "replicas" in one["spec"]
    } == deployments.keys() - scaled.keys()
    assert deployments["scheduler"]["spec"]["replicas"] == 2


def test_the_database_has_connections_for_all_of_them_while_they_are_replaced(
    highly_available: Sequence[Object],
) -> None:
    most = {name: one["spec"]["maxReplicaCount"] for name, one in of_kind(highly_available, "ScaledObject").items()}
    assert CONNECTIONS_MAX == CONNECTIONS_A_PROCESS
    processes = sum(most.values()) + 2
    [database] = of_kind(highly_available, "Cluster").values()
    limit = int(database["spec"]["postgresql"]["parameters"]["max_connections"])
    # A rollout has a quarter more of each for a while; people and the server's own have some.
    assert limit >= processes * CONNECTIONS_A_PROCESS * 1.25 + 20
