"""The command run in a thread against grpcio-testing's channel, where the test plays the gateway."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.message import Message
from typer.testing import CliRunner, Result

from chassis.errors import DETAILS_KEY, CallError, status_of
from cli import gateway
from cli.__main__ import app
from ticketrush.v1 import catalog_pb2, ticketing_pb2

SERVICES = {
    **ticketing_pb2.DESCRIPTOR.services_by_name,
    **catalog_pb2.DESCRIPTOR.services_by_name,
}
RESULT_TIMEOUT_S = 20


class Terminal:
    """Types one command; the test answers its calls and reads what it printed."""

    def __init__(self, channel: Any, threads: ThreadPoolExecutor) -> None:
        self._channel = channel
        self._threads = threads
        self._running: Future[Result] | None = None

    def type(self, *arguments: str) -> None:
        """Starts the command."""
        self._running = self._threads.submit(CliRunner().invoke, app, list(arguments))

    def answer(self, service: str, method: str, response: Message) -> Any:
        """Takes the next call, answers it, and returns the request."""
        request, call = self._take(service, method)
        call.terminate(response, (), grpc.StatusCode.OK, "")
        return request

    def refuse(self, service: str, method: str, error: CallError) -> Any:
        """Takes the next call, refuses it as our services do, and returns the request."""
        request, call = self._take(service, method)
        call.terminate(None, _details(error), error.code, error.message)
        return request

    def stream(self, service: str, method: str, *responses: Message, error: CallError | None = None) -> Any:
        """Takes the next streaming call, sends the responses and ends it, well or not; returns the request."""
        _, request, call = self._channel.take_unary_stream(SERVICES[service].methods_by_name[method])
        call.send_initial_metadata(())
        for response in responses:
            call.send_response(response)
        if error is None:
            call.terminate((), grpc.StatusCode.OK, "")
        else:
            _wait_until_read(call)
            call.terminate(_details(error), error.code, error.message)
        return request

    def ended(self) -> Result:
        """What the command left behind: exit code, standard output and standard error."""
        assert self._running
        return self._running.result(RESULT_TIMEOUT_S)

    def _take(self, service: str, method: str) -> tuple[Any, Any]:
        _, request, call = self._channel.take_unary_unary(SERVICES[service].methods_by_name[method])
        call.send_initial_metadata(())
        return request, call


def _wait_until_read(call: Any) -> None:
    """gRPC brings what was sent before an error; this channel drops what was not read by then, and does not tell."""
    deadline_s = time.monotonic() + RESULT_TIMEOUT_S
    while call._rpc_state._responses:
        assert time.monotonic() < deadline_s, "nobody reads the stream"
        time.sleep(0.001)


def _details(error: CallError) -> tuple[tuple[str, bytes], ...]:
    return ((DETAILS_KEY, status_of(error).SerializeToString()),)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    channel = grpc_testing.channel(SERVICES.values(), grpc_testing.strict_real_time())
    monkeypatch.setattr(gateway, "dial", lambda _address: channel)
    with ThreadPoolExecutor(max_workers=1) as threads:
        yield Terminal(channel, threads)
