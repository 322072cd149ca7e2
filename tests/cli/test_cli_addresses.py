"""Where the command looks for the gateway."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli import addresses
from cli.__main__ import app
from cli.demo import __main__ as demo
from cli.money import written
from tests.cli.lines import unknown_options


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("TICKETRUSH_GATEWAY_ADDRESS", "GATEWAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_without_any_hint_it_is_the_default() -> None:
    assert addresses.gateway_address() == "127.0.0.1:50051"


def test_a_local_stack_is_found_from_a_folder_below(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / ".run").mkdir()
    (elsewhere / ".run/stack.env").write_text('GATEWAY_ADDRESS="127.0.0.1:7001"\nPROVIDER_ADDRESS=127.0.0.1:7002\n')
    (elsewhere / "docs").mkdir()
    monkeypatch.chdir(elsewhere / "docs")
    assert addresses.gateway_address() == "127.0.0.1:7001"
    assert addresses.address_of("PROVIDER") == "127.0.0.1:7002"


def test_nothing_is_made_up_about_a_service_that_nobody_named() -> None:
    assert addresses.address_of("PROVIDER") is None


def test_the_environment_beats_the_local_stack(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / ".run").mkdir()
    (elsewhere / ".run/stack.env").write_text("GATEWAY_ADDRESS=127.0.0.1:7001\n")
    monkeypatch.setenv("GATEWAY_ADDRESS", "127.0.0.1:7003")
    assert addresses.gateway_address() == "127.0.0.1:7003"
    monkeypatch.setenv("TICKETRUSH_GATEWAY_ADDRESS", "127.0.0.1:7004")
    assert addresses.gateway_address() == "127.0.0.1:7004"


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "zzz",
        "127.0.0.1",
        "127.0.0.1:",
        ":50051",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        "http://127.0.0.1:50051",
        "::1:1",
    ],
)
def test_an_address_that_is_none_is_refused_without_a_call(malformed: str) -> None:
    result = CliRunner().invoke(app, ["event", "list", "--address", malformed])
    assert result.exit_code == 2
    assert "--address" in result.stderr
    assert "must be HOST:PORT" in result.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:50051", "gateway:1", "tickets.example.com:65535", "[::1]:50051"])
def test_an_address_may_be_a_name_or_a_number(address: str) -> None:
    assert addresses.host_and_port(address) == address


def test_a_malformed_address_of_the_environment_is_refused_with_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TICKETRUSH_GATEWAY_ADDRESS", "127.0.0.1")
    result = CliRunner().invoke(app, ["event", "list"])
    assert result.exit_code == 2
    assert "TICKETRUSH_GATEWAY_ADDRESS says '127.0.0.1'" in result.stderr


def test_a_malformed_address_of_the_local_stack_is_refused_with_the_name_of_its_file(elsewhere: Path) -> None:
    (elsewhere / ".run").mkdir()
    (elsewhere / ".run/stack.env").write_text("GATEWAY_ADDRESS=zzz\n")
    with pytest.raises(typer.BadParameter, match=r"GATEWAY_ADDRESS in .*/\.run/stack\.env says 'zzz'"):
        addresses.gateway_address()


def test_the_demo_is_not_played_at_a_malformed_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TICKETRUSH_GATEWAY_ADDRESS", "zzz")
    assert demo.main() == 2
    assert "TICKETRUSH_GATEWAY_ADDRESS says 'zzz'; it must be HOST:PORT" in capsys.readouterr().out


def test_a_gateway_that_is_not_there_exits_with_3_and_names_its_address() -> None:
    result = CliRunner().invoke(app, ["event", "list", "--address", "127.0.0.1:1"])
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert "127.0.0.1:1" in result.stderr


@pytest.mark.parametrize("command", [[], ["event"], ["event", "create"], ["tickets", "add"], ["reserve"], ["watch"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0


README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("line", sorted(set(re.findall(r"`ticketrush ([a-z][^`)]+)`", README))))
def test_what_the_readme_tells_people_to_type_exists(line: str) -> None:
    assert unknown_options(line) == set()


@pytest.mark.parametrize("command", [["event", "create"], ["event", "show"], ["pay"]])
def test_arguments_are_called_in_capitals(command: list[str]) -> None:
    usage = re.search(r"\[OPTIONS\] \{(.+)\}", CliRunner().invoke(app, [*command, "--help"]).stdout)
    assert usage
    assert usage[1].isupper()


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (4_500, "EUR", "45.00 EUR"),
        (5, "EUR", "0.05 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (4_500, "JPY", "4500 JPY"),
        (4_500, "KWD", "4.500 KWD"),
    ],
)
def test_money_is_written_with_the_digits_of_its_currency(amount_minor: int, currency: str, text: str) -> None:
    assert written(amount_minor, currency) == text


def test_nobody_waits_for_what_only_operators_need() -> None:
    script = "import sys, cli.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert "cli.buying" in loaded
    assert not {"psycopg", "aio_pika", "aiormq", "jwt", "cryptography", "prometheus_client", "rich.live"} & set(loaded)


def test_operators_commands_are_in_the_list_of_all() -> None:
    assert "fsck" in CliRunner().invoke(app, ["--help"]).stdout
    assert CliRunner().invoke(app, ["fsck", "--help"]).exit_code == 0
