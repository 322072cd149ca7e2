"""Finds one's way in rendered manifests."""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.kubernetes.render import Object

WORKLOADS = ("Deployment", "Job", "CronJob")


def of_kind(objects: Sequence[Object], *kinds: str) -> dict[str, Object]:
    """Those of these kinds, by name; names of different kinds must differ."""
    found = [one for one in objects if one["kind"] in kinds]
    by_name = {one["metadata"]["name"]: one for one in found}
    assert len(by_name) == len(found)
    return by_name


def pod_of(workload: Object) -> dict[str, Any]:
    """The pod template's spec."""
    return dict(_template(workload)["spec"])


def labels_of(workload: Object) -> dict[str, str]:
    return dict(_template(workload)["metadata"]["labels"])


def containers_of(workload: Object) -> list[dict[str, Any]]:
    pod = pod_of(workload)
    return [*pod.get("initContainers", ()), *pod["containers"]]


def main_of(workload: Object) -> dict[str, Any]:
    """The container of the process itself."""
    [main] = pod_of(workload)["containers"]
    return dict(main)


def environment_of(container: dict[str, Any]) -> dict[str, Any]:
    """What each variable is: a text, or where it comes from."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def secrets_in(workload: Object) -> Iterator[tuple[str, str]]:
    """Each key of a secret that it is given; "*" for all."""
    for volume in pod_of(workload).get("volumes", ()):
        if secret := volume.get("secret"):
            yield from ((secret["secretName"], item["key"]) for item in secret.get("items", [{"key": "*"}]))
    for container in containers_of(workload):
        for source in environment_of(container).values():
            if isinstance(source, dict) and (key := source.get("secretKeyRef")):
                yield key["name"], key["key"]


def _template(workload: Object) -> dict[str, Any]:
    spec = workload["spec"]
    if workload["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return dict(spec["template"])
