"""Whose token commands show, and how another is got."""

import os
from concurrent import futures
from pathlib import Path

import grpc
import jwt
import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from cli.addresses import token_for
from deploy.issuer import AUDIENCE, NAME, Issuer

GATEWAY = "127.0.0.1:7001"


@pytest.fixture(autouse=True)
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    """A local stack's files, and nothing in the environment."""
    for name in (
        "TICKETRUSH_TOKEN",
        "TICKETRUSH_AUTH_KEY",
        "AUTH_KEY",
        "TICKETRUSH_GATEWAY_ADDRESS",
        "GATEWAY_ADDRESS",
    ):
        monkeypatch.delenv(name, raising=False)
    issuer = Issuer(tmp_path / ".run" / "issuer")
    issuer.prepare()
    lines = issuer.facts({}) | {"GATEWAY_ADDRESS": GATEWAY}
    (tmp_path / ".run/stack.env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    monkeypatch.chdir(tmp_path)
    return issuer


def claims(issuer: Issuer, text: str) -> tuple[str, list[str], int]:
    key = jwt.PyJWKSet.from_json(issuer.jwks_file.read_text()).keys[0]
    told = jwt.decode(text.strip(), key, ["RS256"], audience=AUDIENCE, issuer=NAME)
    return told["sub"], told["roles"], told["exp"] - told["iat"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--buyer", "ada"], ("ada", ["buyer"], 86_400)),
        (["--organiser", "olga", "--for", "5m"], ("olga", ["organiser"], 300)),
        (["--service", "feed"], ("feed", ["service"], 86_400)),
        (["--door", "--for", "12h"], ("door", ["door"], 43_200)),
        (["--operator"], ("operator", ["operator"], 86_400)),
    ],
)
def test_a_token_is_for_whom_it_was_asked(
    stack: Issuer, options: list[str], expected: tuple[str, list[str], int]
) -> None:
    result = CliRunner().invoke(app, ["token", *options])
    assert result.exit_code == 0, result.output
    assert claims(stack, result.stdout) == expected


@pytest.mark.parametrize(
    "options", [[], ["--buyer", "ada", "--door"], ["--buyer", "ada", "--for", "31d"], ["--door", "--for", "0s"]]
)
def test_what_is_no_token_is_said(options: list[str]) -> None:
    assert CliRunner().invoke(app, ["token", *options]).exit_code == 2


def test_without_a_local_stack_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".run/stack.env").unlink()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["token", "--door"])
    assert result.exit_code == 2
    assert "make up" in result.stderr


def test_the_stacks_token_is_shown_to_its_own_gateway_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_for(GATEWAY)
    assert token_for("elsewhere.example:50051") == ""
    monkeypatch.setenv("TICKETRUSH_TOKEN", "mine")
    assert token_for("elsewhere.example:50051") == token_for(GATEWAY) == "mine"


def test_a_command_shows_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TICKETRUSH_TOKEN", "mine")
    with futures.ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        shown: list[object] = []

        def list_events(_: bytes, context: grpc.ServicerContext) -> bytes:
            shown.append(dict(context.invocation_metadata()).get("authorization"))
            return b""

        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(list_events)
        server.add_registered_method_handlers("ticketrush.v1.CatalogService", {"ListEvents": handler})
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        result = CliRunner().invoke(app, ["event", "list", "--address", f"127.0.0.1:{port}"])
        server.stop(None)
    assert result.exit_code == 0, result.output
    assert shown == ["Bearer mine"]
