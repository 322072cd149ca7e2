"""The command and a gateway on another machine: by TLS, or not at all."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner, Result

from cli.__main__ import app
from cli.failures import UNAVAILABLE, USAGE
from deploy.certificates import issue, make_authority
from ticketrush.v1 import catalog_pb2 as pb

TOKEN = "a.b.c"
ELSEWHERE = "gateway.example:443"


class Gateway:
    """Has one event, and keeps the tokens that it was shown."""

    def __init__(self) -> None:
        self.shown: list[str | bytes] = []

    def list_events(self, _: pb.ListEventsRequest, context: Any) -> pb.ListEventsResponse:
        self.shown += [value for key, value in context.invocation_metadata() if key == "authorization"]
        return pb.ListEventsResponse(events=[pb.Event(name="Hamlet", currency="EUR")])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a gateway's certificate, its key, the CA that vouches for it, and a CA that does not."""
    folder, now = tmp_path_factory.mktemp("certificates"), datetime.now(UTC)
    authority = make_authority(now)
    issue(authority, "gateway", now).write(folder / "cert.pem", folder / "key.pem")
    (folder / "ca.pem").write_text(authority.cert_pem)
    (folder / "stranger.pem").write_text(make_authority(now).cert_pem)
    return folder


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def address(certificates: Path, gateway: Gateway) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    method = grpc.unary_unary_rpc_method_handler(
        gateway.list_events, pb.ListEventsRequest.FromString, pb.ListEventsResponse.SerializeToString
    )
    handlers = grpc.method_handlers_generic_handler("ticketrush.v1.CatalogService", {"ListEvents": method})
    server.add_generic_rpc_handlers((handlers,))
    pair = [((certificates / "key.pem").read_bytes(), (certificates / "cert.pem").read_bytes())]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def typed(address: str, **environment: str) -> Result:
    settings = {"TICKETRUSH_TOKEN": TOKEN, **environment}
    return CliRunner(env=settings).invoke(app, ["event", "list", "--address", address])


def test_a_gateway_of_the_ca_is_called_by_tls_and_shown_the_token(
    gateway: Gateway, address: str, certificates: Path
) -> None:
    done = typed(address, TICKETRUSH_GATEWAY_TLS_CA=str(certificates / "ca.pem"))
    assert (done.exit_code, "Hamlet" in done.output) == (0, True), done.output
    assert gateway.shown == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize("authority", ["stranger.pem", ""], ids=["of another CA", "in plaintext"])
def test_whoever_is_not_the_gateway_is_shown_nothing(
    gateway: Gateway, address: str, certificates: Path, authority: str
) -> None:
    done = typed(address, TICKETRUSH_GATEWAY_TLS_CA=str(certificates / authority) if authority else "")
    assert done.exit_code == UNAVAILABLE, done.output
    assert gateway.shown == []


def test_a_ca_that_is_not_there_is_named(address: str) -> None:
    done = typed(address, TICKETRUSH_GATEWAY_TLS_CA="/nowhere/ca.pem")
    assert done.exit_code == USAGE
    assert "TICKETRUSH_GATEWAY_TLS_CA says '/nowhere/ca.pem': No such file or directory" in " ".join(
        done.output.replace("│", " ").split()
    )


def test_no_token_goes_to_another_machine_in_plaintext_unless_somebody_said_that_it_may() -> None:
    refused = typed(ELSEWHERE)
    assert (refused.exit_code, "TICKETRUSH_GATEWAY_TLS_CA" in refused.output) == (USAGE, True), refused.output
    allowed = typed("[2001:db8::1]:1", TICKETRUSH_GATEWAY_PLAINTEXT="yes")
    assert allowed.exit_code == UNAVAILABLE, "called, and there is nobody"
