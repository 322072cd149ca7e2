"""JSON logs on standard output, one object a line, with the ids of the call that caused them."""

import logging
import sys
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

from chassis import tracing
from chassis.tracing import TRACE_ID
from ticketrush.messages.v1 import messages_pb2 as pb

call_method: ContextVar[str] = ContextVar("call_method", default="")
call_request_id: ContextVar[str] = ContextVar("call_request_id", default="")


class _CallIds(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if method := call_method.get():
            record.method = method
        if request_id := call_request_id.get():
            record.request_id = request_id
        if trace_id := tracing.trace_id():
            record.trace_id = trace_id
        return True


def ids_of(envelope: pb.Envelope) -> dict[str, str]:
    """What a line about an envelope says beside its text: the trace and the request that it is of, as far as known."""
    payload = envelope.WhichOneof("payload")
    ids = {
        "trace_id": envelope.traceparent[TRACE_ID],
        "request_id": getattr(getattr(envelope, payload), "request_id", "") if payload else "",
    }
    return {name: value for name, value in ids.items() if value}


def configure(service: str, level: str) -> None:
    """Sends every log record of this process to standard output as JSON. Raises ValueError on an unknown level."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(_CallIds())
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            static_fields={"service": service},
            timestamp="time",
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Their own chatter, tracebacks of lost connections among it, repeats what our supervisors say once.
    for noisy, least in (
        ("aio_pika", "CRITICAL"),
        ("aiormq", "CRITICAL"),
        ("psycopg.pool", "ERROR"),
        ("apscheduler", "ERROR"),
    ):
        logging.getLogger(noisy).setLevel(least)
