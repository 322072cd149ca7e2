"""Settings that are wrong: all are named at once, in words for people, and the process ends with its own exit code."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chassis import settings
from tests.chassis.certificates import Office

RIGHT = {
    "LISTEN_ADDRESS": "127.0.0.1:0",
    "METRICS_ADDRESS": "127.0.0.1:0",
    "LOG_LEVEL": "warning",
    "AMQP_URL": "amqp://somebody:something@127.0.0.1:5672/",  # pragma: allowlist secret
    "DATABASE_URL": "postgresql://somebody@127.0.0.1/ticketrush",
}


class Chosen(settings.Settings):
    amqp_url: settings.AmqpUrl
    database_url: settings.DatabaseUrl


def load(monkeypatch: pytest.MonkeyPatch, **changed: str | None) -> Chosen:
    for name, value in (RIGHT | changed).items():
        if value is None:
            monkeypatch.delenv(settings.PREFIX + name, raising=False)
        else:
            monkeypatch.setenv(settings.PREFIX + name, value)
    return settings.load(Chosen)


def test_what_is_right_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = load(monkeypatch, DATABASE_URL="host=127.0.0.1 dbname=ticketrush", AMQP_URL="amqps://broker/second")
    assert (chosen.amqp_url, chosen.database_url) == ("amqps://broker/second", "host=127.0.0.1 dbname=ticketrush")
    assert chosen.log_level == "WARNING"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("LISTEN_ADDRESS", None, "is missing"),
        ("LISTEN_ADDRESS", "127.0.0.1", "must be HOST:PORT"),
        ("LISTEN_ADDRESS", "http://127.0.0.1:50051", "must be HOST:PORT"),
        ("METRICS_ADDRESS", "127.0.0.1:99999", "must be HOST:PORT"),
        ("LOG_LEVEL", "bogus", "must be DEBUG"),
        ("AMQP_URL", "", "must be amqp://"),
        ("AMQP_URL", "nonsense", "must be amqp://"),
        ("AMQP_URL", "amqp://", "must be amqp://"),
        ("AMQP_URL", "http://localhost", "must be amqp://"),
        ("AMQP_URL", "amqp://127.0.0.1:99999/", "Port out of range"),
        ("AMQP_URL", "amqps://broker/?no_verify_ssl=1", "must not have no_verify_ssl"),
        ("AMQP_URL", "amqps://broker/?cafile=/nowhere/ca.pem", "has cafile=/nowhere/ca.pem, which is no file"),
        ("DATABASE_URL", "nonsense", "must be postgresql://"),
        ("DATABASE_URL", "mysql://x/y", "must be postgresql://"),
    ],
)
def test_what_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str | None, problem: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        load(monkeypatch, **{name: value})
    assert ended.value.code == settings.EXIT_CODE_MISCONFIGURED
    assert f"TICKETRUSH_{name}: {problem}" in capsys.readouterr().err


def test_all_that_is_wrong_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        load(monkeypatch, AMQP_URL="zzz", DATABASE_URL="zzz", LISTEN_ADDRESS="zzz")
    told = capsys.readouterr().err
    assert [line.split(":")[0].strip() for line in told.splitlines()[1:]] == [
        "TICKETRUSH_LISTEN_ADDRESS",
        "TICKETRUSH_AMQP_URL",
        "TICKETRUSH_DATABASE_URL",
    ]


def test_what_is_in_a_file_is_taken_without_the_end_of_its_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text("amqp://u:by-file@broker/\n")  # pragma: allowlist secret
    monkeypatch.setenv("TICKETRUSH_AMQP_URL_FILE", str(tmp_path / "url"))
    assert load(monkeypatch, AMQP_URL=None).amqp_url == "amqp://u:by-file@broker/"  # pragma: allowlist secret


@pytest.mark.parametrize(
    ("amqp_url", "problem"),
    [
        (None, "TICKETRUSH_AMQP_URL_FILE: cannot read"),
        ("amqp://u:p@broker/", "TICKETRUSH_AMQP_URL and TICKETRUSH_AMQP_URL_FILE are both set: unset one"),
    ],
)
def test_a_file_that_is_not_there_or_one_too_many_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], amqp_url: str | None, problem: str
) -> None:
    monkeypatch.setenv("TICKETRUSH_AMQP_URL_FILE", "/nowhere/url")
    with pytest.raises(SystemExit):
        load(monkeypatch, AMQP_URL=amqp_url)
    assert problem in capsys.readouterr().err


def test_no_repr_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = load(monkeypatch, AMQP_URL="amqp://u:hush@broker/", DATABASE_URL="postgresql://u:hush@server/d")
    assert "hush" in chosen.amqp_url + chosen.database_url
    for shown in (repr(chosen), str(chosen), f"{chosen}"):
        assert "hush" not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AMQP_URL", "amqp://u:hush/hush@broker/"),
        ("AMQP_URL", "broker://u:hush@broker/"),  # pragma: allowlist secret
        ("DATABASE_URL", "postgres:/u:hush@server/d"),
        ("DATABASE_URL", "host=server hush"),
    ],
)
def test_what_is_wrong_is_named_without_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    with pytest.raises(SystemExit):
        load(monkeypatch, **{name: value})
    told = capsys.readouterr().err
    assert f"TICKETRUSH_{name}" in told
    assert "hush" not in told


def started(store: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    """A process that is expected to end by itself, at once."""
    variables = {name: RIGHT[name] for name in ("LISTEN_ADDRESS", "METRICS_ADDRESS")} | changed
    return subprocess.run(
        [sys.executable, "-m", "provider"],
        env={**os.environ, **{f"TICKETRUSH_{name}": value for name, value in variables.items()}}
        | {"TICKETRUSH_STORE_PATH": str(store)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("setting", ["LISTEN_ADDRESS", "METRICS_ADDRESS"])
def test_an_address_that_is_taken_is_told_in_a_line(tmp_path: Path, setting: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = started(tmp_path / "provider.db", **{setting: address})
    assert ended.returncode == settings.EXIT_CODE_MISCONFIGURED
    assert f"Cannot start, TICKETRUSH_{setting}: cannot listen on {address}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("place", [".", "nowhere/provider.db"])
def test_a_store_that_cannot_be_is_told_and_not_made(tmp_path: Path, place: str) -> None:
    ended = started(tmp_path / place)
    assert ended.returncode == settings.EXIT_CODE_MISCONFIGURED
    assert "TICKETRUSH_STORE_PATH: must be a file, in a folder that exists" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "tickets.example:0", "10.0.0.1:50051"])
def test_a_service_does_not_start_off_this_machine_without_tls(tmp_path: Path, address: str) -> None:
    ended = started(tmp_path / "provider.db", LISTEN_ADDRESS=address)
    assert ended.returncode == settings.EXIT_CODE_MISCONFIGURED
    assert f"TICKETRUSH_LISTEN_ADDRESS {address}" in ended.stderr
    assert "set TICKETRUSH_TLS_CERT, TICKETRUSH_TLS_KEY and TICKETRUSH_TLS_CA, or use 127.0.0.1" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_service_does_not_start_with_a_certificate_of_no_use(tmp_path: Path, broken: int) -> None:
    office = Office(tmp_path)
    office.issue("provider")
    files = office.files("provider")
    files[broken].write_text("nonsense")
    given = dict(zip(("TLS_CERT", "TLS_KEY", "TLS_CA"), map(str, files), strict=True))
    ended = started(tmp_path / "provider.db", **given)
    assert ended.returncode == settings.EXIT_CODE_MISCONFIGURED
    assert str(files[broken]) in ended.stderr
    assert "TICKETRUSH_TLS_CERT" in ended.stderr
    assert "Traceback" not in ended.stderr


class Caller(settings.Settings):
    payments_address: settings.Address


class Door(settings.PublicSettings):
    payments_address: settings.Address = "127.0.0.1:50053"


HERE = "127.0.0.1:0"
ANYWHERE = "0.0.0.0:0"  # what is refused


def test_a_link_to_another_machine_needs_tls_too(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.issue("scheduler")
    cert, key, ca = office.files("scheduler")
    where = {"listen_address": HERE, "metrics_address": ANYWHERE}
    with pytest.raises(ValueError, match=r"TICKETRUSH_PAYMENTS_ADDRESS payments:50053.*TICKETRUSH_TLS_CERT"):
        Caller.model_validate(where | {"payments_address": "payments:50053"})
    tls = {"tls_cert": cert, "tls_key": key, "tls_ca": ca}
    assert Caller.model_validate(where | tls | {"payments_address": "payments:50053"}).tls
    assert Caller.model_validate(where | {"payments_address": "localhost:50053", "tls_cert": ""}).tls is None


@pytest.mark.parametrize("left_out", ["tls_cert", "tls_key", "tls_ca"])
def test_part_of_an_identity_is_none(tmp_path: Path, left_out: str) -> None:
    office = Office(tmp_path)
    office.issue("provider")
    names = ("tls_cert", "tls_key", "tls_ca")
    given = {name: file for name, file in zip(names, office.files("provider"), strict=True) if name != left_out}
    with pytest.raises(ValueError, match=f"TICKETRUSH_{left_out.upper()} must be set too"):
        settings.Settings.model_validate({"listen_address": HERE, "metrics_address": HERE} | given)


def test_the_public_port_is_private_on_the_way_or_says_that_it_is_not(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.issue("tickets.example")
    cert, key, _ = office.files("tickets.example")
    where = {"listen_address": ANYWHERE, "metrics_address": HERE}
    wrong = r"TICKETRUSH_LISTEN_ADDRESS 0\.0\.0\.0:0.*TICKETRUSH_PUBLIC_TLS_CERT and TICKETRUSH_PUBLIC_TLS_KEY"
    with pytest.raises(ValueError, match=wrong):
        Door.model_validate(where)
    assert Door.model_validate(where | {"public_tls_cert": cert, "public_tls_key": key}).port_tls
    assert Door.model_validate(where | {"public_plaintext": "yes"}).port_tls is None
    assert Door.model_validate(where | {"listen_address": HERE}).port_tls is None
    with pytest.raises(ValueError, match="TICKETRUSH_PUBLIC_TLS_KEY must be set too"):
        Door.model_validate(where | {"public_tls_cert": cert})
    # Its links to other services are links as any.
    with pytest.raises(ValueError, match="TICKETRUSH_PAYMENTS_ADDRESS payments:50053"):
        Door.model_validate(where | {"public_plaintext": "yes", "payments_address": "payments:50053"})
