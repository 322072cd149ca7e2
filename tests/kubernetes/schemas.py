"""What an object may look like: Kubernetes' own schemas, and those that the operators ship in their Go modules."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import jsonschema
import kubernetes_validate
import yaml

from deploy.golang import BuildError, compiler_for
from tests.kubernetes.render import ROOT, TOOLS, Object, OfflineError, UnsoundError

# The oldest that docs/kubernetes.md asks for, and the newest that is known.
KUBERNETES_VERSIONS: Final = ("1.34", "1.37")
CACHE: Final = ROOT / ".venv" / "crds"
DOWNLOAD_TIMEOUT_S: Final = 300
Schema = dict[str, Any]


class Operator(NamedTuple):
    """Whose Go module has the definitions of kinds of `group`; `digest` is the module's, as go.sum has it."""

    group: str
    module: str
    version: str
    digest: str
    folder: str = "config/crd/bases"


OPERATORS: Final = (
    Operator(
        "postgresql.cnpg.io",
        "github.com/cloudnative-pg/cloudnative-pg",
        "v1.30.0",
        "h1:fnhVq44xXx97MNiuvJsPrX1vSjYbgdyBK5MSGfdHdp0=",
    ),
    Operator(
        "rabbitmq.com",
        "github.com/rabbitmq/cluster-operator/v2",
        "v2.16.0",
        "h1:oYJm+1tXIatGHtiUWyN9hGdO+0eWsXA/j1b81wh0IqI=",
    ),
    Operator("keda.sh", "github.com/kedacore/keda/v2", "v2.21.0", "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps="),
    Operator(
        "cert-manager.io",
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
        "deploy/crds",
    ),
)


def operator_of(found: Object) -> Operator | None:
    """Whose kind an object is of; None for Kubernetes' own."""
    group = str(found.get("apiVersion", "")).partition("/")[0]
    return next((operator for operator in OPERATORS if operator.group == group), None)


def problems(found: Object, folder: Path = CACHE) -> list[str]:
    """What is wrong with an object. Raises OfflineError when its schema cannot be had, UnsoundError if it changed."""
    operator = operator_of(found)
    if operator is None:
        return [told for version in KUBERNETES_VERSIONS for told in _problems_of_kubernetes(found, version)]
    schema = definitions(operator, folder).get(f"{found['apiVersion']} {found['kind']}")
    if schema is None:
        return [f"{operator.module}@{operator.version} knows no {found['apiVersion']} {found['kind']}"]
    # A definition leaves metadata to Kubernetes.
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": found.get("metadata")}
    told = _problems_of_kubernetes(bare, KUBERNETES_VERSIONS[0])
    errors = jsonschema.Draft202012Validator(schema).iter_errors(found)
    return told + [f"{'.'.join(map(str, error.path))}: {error.message[:300]}" for error in errors]


@cache
def definitions(operator: Operator, folder: Path = CACHE) -> dict[str, Schema]:
    """Its kinds, "GROUP/VERSION KIND", as strict JSON schemas. Raises OfflineError, UnsoundError."""
    file = folder / f"{operator.module.replace('/', '_')}@{operator.version}.json"
    if not file.exists():
        found = dict(_read(_downloaded(operator) / operator.folder))
        folder.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".new").write_text(json.dumps(found))
        file.with_suffix(".new").replace(file)
    return {name: strict(schema) for name, schema in json.loads(file.read_text()).items()}


def strict(schema: Any) -> Any:
    """The schema, by which a field that it does not name is wrong, as an API server with strict validation has it."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
        closed["additionalProperties"] = False
    if schema.get("nullable") is True and isinstance(schema.get("type"), str):
        closed["type"] = [schema["type"], "null"]
    return closed


def _problems_of_kubernetes(found: Object, version: str) -> list[str]:
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message[:300]}"]
    except (kubernetes_validate.SchemaNotFoundError, KeyError, TypeError, AttributeError) as error:
        return [f"Kubernetes {version} knows no such kind: {getattr(error, 'message', error)!r}"]
    return []


def _read(folder: Path) -> Iterator[tuple[str, Schema]]:
    for file in sorted(folder.glob("*.yaml")):
        for definition in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            if not definition or definition.get("kind") != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            for version in spec["versions"]:
                name = f"{spec['group']}/{version['name']} {spec['names']['kind']}"
                yield name, version["schema"]["openAPIV3Schema"]


def _downloaded(operator: Operator) -> Path:
    try:
        command = [compiler_for(TOOLS), "mod", "download", "-json", f"{operator.module}@{operator.version}"]
        # Away from every module: this one is nobody's dependency.
        with tempfile.TemporaryDirectory() as nowhere:
            done = subprocess.run(
                command, cwd=nowhere, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
            )
        told = json.loads(done.stdout)
    except (BuildError, json.JSONDecodeError, subprocess.TimeoutExpired) as error:
        raise OfflineError(f"{operator.module} cannot be had: {error}") from error
    if "Error" in told:
        raise OfflineError(f"{operator.module}@{operator.version} cannot be had: {told['Error'][:200]}")
    if told["Sum"] != operator.digest:
        raise UnsoundError(f"{operator.module}@{operator.version} is not what it was: {told['Sum']}")
    return Path(told["Dir"])
