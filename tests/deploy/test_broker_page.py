"""The broker's management page by TLS: known by the CA that SSL_CERT_FILE names, as the Job in Kubernetes does it."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy.broker import ask
from tests.chassis.certificates import Office

AMQP_URL = "amqps://somebody:something@localhost:5671/"  # pragma: allowlist secret


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Authorization"].encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def page(office: Office) -> Iterator[str]:
    """Where the page of a broker with a certificate of the office is."""
    office.issue("rabbitmq")
    cert, key, _ = office.files("rabbitmq")
    server = HTTPServer(("127.0.0.1", 0), Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


def test_a_page_of_our_ca_is_believed(page: str, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(office.files("rabbitmq")[2]))
    assert ask(page, AMQP_URL, "GET", "/api/overview").startswith(b"Basic ")


def test_a_page_of_another_ca_is_told_nothing(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(page, AMQP_URL, "GET", "/api/overview")
