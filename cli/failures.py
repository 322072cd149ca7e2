"""A call that ended with an error status, put into one line and an exit code."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError

from chassis.errors import DETAILS_KEY
from cli.advice import ADVICE_ON_ERRORS
from cli.printable import printable

REFUSED: Final = 1
"""Understood, and refused."""
USAGE: Final = 2
"""Something typed was wrong; the same as typer's own."""
UNAVAILABLE: Final = 3
"""No answer, or not yet: the same command may work later."""

_EXIT_CODES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: USAGE,
    grpc.StatusCode.UNAVAILABLE: UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UNAVAILABLE,
}


@dataclass(frozen=True)
class Failure:
    """What went wrong. `reason` is empty when the error did not come from TicketRush itself."""

    code: grpc.StatusCode
    reason: str
    message: str
    violations: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES.get(self.code, REFUSED)


def understand(error: grpc.Call | AioRpcError) -> Failure:
    """Reads the status and its google.rpc details."""
    reason, violations = "", {}
    for detail in _details(error):
        info, fields = ErrorInfo(), BadRequest()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(fields):
            violations = {found.field: found.description for found in fields.field_violations}
    return Failure(error.code(), reason, error.details() or "", violations)


def _details(error: grpc.Call | AioRpcError) -> Iterable[Any]:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            details: Iterable[Any] = Status.FromString(value).details
            return details
    return ()


def told(failure: Failure, address: str, request_id: str, *, as_json: bool) -> str:
    """One line for a person, or one JSON object."""
    if as_json:
        return json.dumps(
            {
                "code": failure.code.name,
                "reason": failure.reason,
                "message": failure.message,
                "violations": dict(failure.violations),
                "request_id": request_id,
            }
        )
    return printable(f"{_cause(failure, address)}{_advice(failure, request_id)}")


def _cause(failure: Failure, address: str) -> str:
    if failure.violations:
        fields = "; ".join(f"{name} {problem}" for name, problem in failure.violations.items())
        return f"{failure.reason or failure.code.name}: {fields}"
    if failure.reason:
        return f"{failure.reason}: {failure.message}"
    if failure.exit_code == UNAVAILABLE:
        return f"No answer from {address} ({failure.code.name}). `make up` starts it, --address looks elsewhere."
    return f"{failure.code.name}: {failure.message}"


def _advice(failure: Failure, request_id: str) -> str:
    if failure.code == grpc.StatusCode.UNAUTHENTICATED:
        return ". `make up` gives commands a token for its own stack; for another, set TICKETRUSH_TOKEN."
    if failure.reason in ADVICE_ON_ERRORS:
        return f". {ADVICE_ON_ERRORS[failure.reason]}"
    if not request_id or failure.code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return ""
    return f" Whether it happened is unknown; run it again with --request-id {request_id}: nothing happens twice."
