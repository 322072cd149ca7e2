"""How a refused call looks on the wire: one status, one stable reason, the details of google.rpc."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError

DOMAIN = "ticketrush"
DETAILS_KEY = "grpc-status-details-bin"


@dataclass
class CallError(Exception):
    """A call that ends with an error status; raised by servicers, mapped once by the server's interceptor.

    `violations` maps a field to what is wrong with it (INVALID_ARGUMENT); `retry_after_s` becomes RetryInfo.
    """

    code: grpc.StatusCode
    reason: str
    message: str
    violations: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def invalid(violations: Mapping[str, str]) -> CallError:
    """The refusal of a message that is wrong by itself; names each field."""
    message = "; ".join(f"{name}: {problem}" for name, problem in violations.items())
    return CallError(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", message, violations)


def not_found(reason: str, message: str) -> CallError:
    """The refusal of a call about something that is not there."""
    return CallError(grpc.StatusCode.NOT_FOUND, reason, message)


def failed_precondition(reason: str, message: str) -> CallError:
    """The refusal of a call that the state of its subject forbids."""
    return CallError(grpc.StatusCode.FAILED_PRECONDITION, reason, message)


def already_exists(reason: str, message: str) -> CallError:
    """The refusal of a call whose key or place is taken by something else."""
    return CallError(grpc.StatusCode.ALREADY_EXISTS, reason, message)


def unavailable(reason: str, message: str) -> CallError:
    """The refusal of a call that may work a little later."""
    return CallError(grpc.StatusCode.UNAVAILABLE, reason, message)


def overloaded(reason: str, message: str, retry_after_s: float) -> CallError:
    """The refusal of a call that there is no room for now."""
    return CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, message, retry_after_s=retry_after_s)


def from_upstream(error: AioRpcError) -> CallError:
    """What a failed call to another of our services means to our caller: its refusal as it stands, or UNAVAILABLE."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return _from_status(error.code(), Status.FromString(value))
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return unavailable(
            "SERVICE_UNAVAILABLE", f"a service behind this one does not answer ({error.details()}); try again"
        )
    return CallError(error.code(), "UPSTREAM_FAILED", error.details() or "")


def _from_status(code: grpc.StatusCode, status: Status) -> CallError:
    refusal = CallError(code, "", status.message)
    info, fields, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            refusal.reason = info.reason
        elif detail.Unpack(fields):
            refusal.violations = {found.field: found.description for found in fields.field_violations}
        elif detail.Unpack(retry):
            refusal.retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return refusal


def status_of(error: CallError) -> Status:
    """The google.rpc.Status of an error, with its details."""
    status = Status(code=error.code.value[0], message=error.message)
    status.details.add().Pack(ErrorInfo(reason=error.reason, domain=DOMAIN))
    if error.violations:
        fields = [BadRequest.FieldViolation(field=name, description=text) for name, text in error.violations.items()]
        status.details.add().Pack(BadRequest(field_violations=fields))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return status


async def abort(context: grpc.aio.ServicerContext, error: CallError) -> NoReturn:  # type: ignore[type-arg]
    """Ends the call with the error; never returns."""
    details = status_of(error).SerializeToString()
    await context.abort(error.code, error.message, ((DETAILS_KEY, details),))
    raise AssertionError("context.abort returned")
