"""What is misspelt or of the wrong type is found, whosever kind it is; and what is skipped is not called sound."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes import schemas
from tests.kubernetes.check import judged, told
from tests.kubernetes.render import Object, OfflineError, UnsoundError, build, kustomize, read
from tests.kubernetes.schemas import OPERATORS, problems, strict

# Kind -> a path to an object in which fields have names of their own.
KINDS = {
    "Deployment": ("spec", "template", "spec"),
    "Job": ("spec",),
    "NetworkPolicy": ("spec",),
    "PodDisruptionBudget": ("spec",),
    "Cluster": ("spec", "bootstrap", "initdb"),
    "RabbitmqCluster": ("spec", "override", "statefulSet", "spec", "template", "spec"),
    "ScaledObject": ("spec", "advanced"),
    "TriggerAuthentication": ("spec",),
    "ScheduledBackup": ("spec",),
    "Certificate": ("spec", "privateKey"),
    "Issuer": ("spec",),
}


def first(objects: Sequence[Object], kind: str) -> Object:
    return copy.deepcopy(next(found for found in objects if found["kind"] == kind))


def problems_or_skip(found: Object) -> list[str]:
    try:
        return problems(found)
    except OfflineError as error:
        pytest.skip(f"offline: {error}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_nobody_knows_is_found(kind: str, highly_available: Sequence[Object]) -> None:
    found = first(highly_available, kind)
    assert not problems_or_skip(found)
    place: Any = found
    for name in KINDS[kind]:
        place = place[name]
    place["replicaz"] = 1
    assert any("replicaz" in problem for problem in problems(found))


@pytest.mark.parametrize("kind", ["Deployment", "Cluster"])
def test_a_misspelt_field_of_metadata_is_found(kind: str, highly_available: Sequence[Object]) -> None:
    found = first(highly_available, kind)
    found["metadata"]["lables"] = {}
    assert any("lables" in problem for problem in problems_or_skip(found))


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("Deployment", "replicas", "two"),
        ("Cluster", "instances", "3"),
        ("RabbitmqCluster", "replicas", "3"),
        ("ScaledObject", "maxReplicaCount", "six"),
        ("Certificate", "dnsNames", "gateway"),
    ],
)
def test_a_value_of_the_wrong_type_is_found(
    kind: str, field: str, value: str, highly_available: Sequence[Object]
) -> None:
    found = first(highly_available, kind)
    found["spec"][field] = value
    assert any(value in problem for problem in problems_or_skip(found))


def test_a_kind_that_nobody_has_is_found() -> None:
    for version in ("v1", "apps/v1", "keda.sh/v1alpha1"):
        made_up = {"apiVersion": version, "kind": "Gatekeeper", "metadata": {"name": "x"}}
        assert problems_or_skip(made_up)


def test_a_word_that_is_no_word_to_kubernetes_is_found(base: Sequence[Object]) -> None:
    deployment = first(base, "Deployment")
    [odd] = read("{name: TICKETRUSH_PUBLIC_PLAINTEXT, value: yes}")
    deployment["spec"]["template"]["spec"]["containers"][0]["env"].append(odd)
    assert any("True is not of type" in problem for problem in problems(deployment))


def test_a_file_that_is_not_there_is_no_clean_manifest(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    try:
        program = kustomize()
    except OfflineError as error:
        pytest.skip(f"offline: {error}")
    with pytest.raises(UnsoundError, match=r"missing\.yaml"):
        build(tmp_path, program)


def test_offline_is_told_and_neither_sound_nor_a_problem(
    highly_available: Sequence[Object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOPROXY", "off")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    verdict = judged([first(highly_available, "Cluster"), first(highly_available, "Deployment")], tmp_path / "crds")
    assert verdict.problems == []
    [skipped] = verdict.skipped
    assert skipped.startswith("Cluster/database: ")
    assert "2 objects, no problem, 1 skipped" in told("x", 2, verdict)[0]


def test_a_module_that_is_not_what_it_was_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = OPERATORS[1]._replace(digest="h1:another")
    monkeypatch.setattr(schemas, "OPERATORS", (changed,))
    found = {"apiVersion": "rabbitmq.com/v1beta1", "kind": "RabbitmqCluster", "metadata": {"name": "x"}}
    verdict = judged([found], tmp_path)
    if verdict.skipped:
        pytest.skip(verdict.skipped[0])
    [problem] = verdict.problems
    assert "is not what it was" in problem


def test_what_a_definition_leaves_open_stays_open() -> None:
    leaf = {"type": "object", "properties": {"a": {"type": "string", "nullable": True}}}
    kept = {**leaf, "x-kubernetes-preserve-unknown-fields": True}
    assert strict(leaf)["additionalProperties"] is False
    assert strict(leaf)["properties"]["a"]["type"] == ["string", "null"]
    assert "additionalProperties" not in strict(kept)
    assert strict({"type": "object", "additionalProperties": leaf})["additionalProperties"] == strict(leaf)
