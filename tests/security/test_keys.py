"""Where keys come from, which of them count, and how they are changed under a service that runs."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from chassis import keys
from chassis.errors import CallError
from chassis.keys import NoKeys, checked_place, parse
from chassis.tokens import Verifier
from tests.chassis.broker import running, until
from tests.security import forge
from tests.security.forge import bearer, jwk, key_set, refusal, signed


async def lets_in(verifier: Verifier, token: str) -> bool:
    try:
        await verifier.caller(bearer(token))
    except CallError:
        return False
    return True


class Host(ThreadingHTTPServer):
    """A web server of the issuer's, on loopback."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.body = key_set("current").encode()
        self.status = 200
        self.location = ""
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks.json"


class _Page(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as host:
        yield host


@contextmanager
def serving() -> Iterator[Host]:
    with Host() as host:
        thread = Thread(target=host.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield host
        finally:
            host.shutdown()
            thread.join()


@pytest.fixture
def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FILE_INTERVAL_S", "URL_INTERVAL_S"):
        monkeypatch.setattr(keys, name, 3_600.0)


async def test_a_file_that_changed_is_read_again_and_who_came_by_the_old_key_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "FILE_INTERVAL_S", 0.01)
    file = tmp_path / "jwks.json"
    file.write_text(key_set("current"))
    verifier = forge.verifier(file)
    await verifier.open()
    old, new = signed("current"), signed("next")
    async with running(verifier.run()):
        assert await lets_in(verifier, old)
        file.write_text(key_set("current", "next"))
        await until(lambda: lets_in(verifier, new))
        assert await lets_in(verifier, old)
        file.write_text(key_set("next"))

        async def old_is_out() -> bool:
            return not await lets_in(verifier, old)

        await until(old_is_out)
        assert await lets_in(verifier, new)


async def test_a_file_that_became_unusable_leaves_the_keys_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys, "FILE_INTERVAL_S", 0.01)
    file = tmp_path / "jwks.json"
    file.write_text(key_set("current"))
    verifier = forge.verifier(file)
    await verifier.open()
    async with running(verifier.run()):
        file.write_text("{")
        await until(lambda: "going on with the keys of before" in caplog.text)
        assert await lets_in(verifier, signed())
        file.write_text(key_set("next"))
        await until(lambda: lets_in(verifier, signed("next")))


@pytest.mark.usefixtures("never_by_itself")
async def test_a_key_that_is_not_known_is_looked_for_at_its_url_but_not_for_everybody(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = forge.verifier(host.url)
    await verifier.open()
    assert host.asked == 1
    assert not await lets_in(verifier, signed("next"))
    assert host.asked == 2
    host.body = key_set("current", "next").encode()
    for _ in range(3):
        assert not await lets_in(verifier, signed("next")), "it was looked for a moment ago"
    assert host.asked == 2
    monkeypatch.setattr(keys, "LOOK_AGAIN_INTERVAL_S", 0.0)
    assert all(await asyncio.gather(*(lets_in(verifier, signed("next", sub=f"b{n}")) for n in range(20))))
    assert host.asked == 3, "twenty who wait for one key ask once"


async def test_a_url_is_asked_again_in_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "URL_INTERVAL_S", 0.01)
    verifier = forge.verifier(host.url)
    await verifier.open()
    old = signed()
    assert await lets_in(verifier, old)
    host.body = key_set("next").encode()
    async with running(verifier.run()):

        async def old_is_out() -> bool:
            return not await lets_in(verifier, old)

        await until(old_is_out)


@pytest.mark.usefixtures("never_by_itself")
async def test_an_issuer_that_does_not_answer_keeps_nobody_out_who_is_known(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOOK_AGAIN_INTERVAL_S", 0.0)
    verifier = forge.verifier(host.url)
    await verifier.open()
    host.status = 503
    assert (await refusal(verifier, signed("next"))).reason == "TOKEN_INVALID"
    assert await lets_in(verifier, signed())


async def test_keys_come_from_where_they_were_said_to_be(host: Host) -> None:
    with serving() as elsewhere:
        host.status, host.location = 302, elsewhere.url
        with pytest.raises(SystemExit) as stopped:
            await forge.verifier(host.url).open()
        assert stopped.value.code == 2
        assert elsewhere.asked == 0


async def test_a_key_set_without_end_is_not_read_to_its_end(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.body = b" " * (keys.KEY_SET_BYTES_MAX + 1)
    with pytest.raises(SystemExit):
        await forge.verifier(host.url).open()
    assert "larger than" in capsys.readouterr().err


PRIVATE = {"d": "AQAB"}
UNUSABLE = {
    "nothing": ([], "it is empty"),
    "an elliptic curve": ([{"kty": "EC", "kid": "a"}], "is not RSA"),
    "a shared secret": ([{"kty": "oct", "k": "AAAA", "kid": "a"}], "is not RSA"),
    "no name": ([jwk("current", kid=None)], "has no kid"),
    "another use": ([jwk("current", use="enc")], "is not for signing with RS256"),
    "another algorithm": ([jwk("current", alg="RS512")], "is not for signing with RS256"),
    "a short key": ([jwk("short", 1_024)], "is not of 2,048 to 4,096 bits"),
    "its private part": ([jwk("current") | PRIVATE], "has its private part with it"),
    "half a key": ([{"kty": "RSA", "kid": "a", "n": "AQAB"}], "is malformed"),
    "no key": (["RSA"], "is not RSA"),
}


@pytest.mark.parametrize("case", UNUSABLE)
async def test_a_set_without_a_usable_key_ends_the_process_and_says_why(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, problem = UNUSABLE[case]
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": listed}))
    with pytest.raises(SystemExit) as stopped:
        await forge.verifier(file).open()
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "TICKETRUSH_AUTH_JWKS" in told
    assert str(file) in told
    assert problem in told


def test_unusable_keys_beside_a_usable_one_do_no_harm() -> None:
    body = json.dumps({"keys": [{"kty": "EC"}, jwk("short", 1_024), jwk("current")]}).encode()
    assert parse(body, "here").keys() == {"current"}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"keys": 1}', b"[" * 100_000, b"\xff", b'{"keys": [' + b"{}," * 99]
)
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises(NoKeys, match="here is no key set"):
        parse(body, "here")


async def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        await forge.verifier(tmp_path / "jwks.json").open()
    assert f"{tmp_path}/jwks.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["http://issuer.example/jwks.json", "ftp://127.0.0.1/x", "https://", "file:///etc/x"])
def test_keys_are_not_fetched_where_others_could_answer(place: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        checked_place(place)


@pytest.mark.parametrize("place", ["https://issuer.example/jwks.json", "http://127.0.0.1:1/x", "/etc/jwks.json"])
def test_keys_may_come_from_files_from_tls_and_from_this_machine(place: str) -> None:
    assert checked_place(place) == place
