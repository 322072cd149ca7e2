"""Every RPC that there is, read from the contract itself."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

_GENERATED = Path(__file__).parents[2] / "gen/python"


def full_name(method: Any) -> str:
    """Of a MethodDescriptor, as it is on the wire. The stubs know two classes of that name."""
    return f"/{method.containing_service.full_name}/{method.name}"


def ours() -> Iterator[MethodDescriptor]:
    """The methods of every service in protos/."""
    for file in sorted(_GENERATED.rglob("*_pb2.py")):
        module = importlib.import_module(".".join(file.relative_to(_GENERATED).with_suffix("").parts))
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def public() -> list[MethodDescriptor]:
    """Those that the gateway serves."""
    return [method for method in ours() if method.containing_service.file.package == "ticketrush.v1"]


def shared() -> list[str]:
    """What every port has beside."""
    health = health_pb2.DESCRIPTOR.services_by_name["Health"]
    reflection = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
    v1alpha = [full_name(method) for method in reflection.methods]
    return [*map(full_name, health.methods), *v1alpha, *(name.replace("v1alpha", "v1") for name in v1alpha)]
