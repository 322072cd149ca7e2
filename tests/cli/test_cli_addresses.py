"""Where the command looks for the gateway."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import addresses
from cli.__main__ import app
from cli.money import written


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
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


def test_a_gateway_that_is_not_there_exits_with_3_and_names_its_address() -> None:
    result = CliRunner().invoke(app, ["event", "list", "--address", "127.0.0.1:1"])
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert "127.0.0.1:1" in result.stderr


@pytest.mark.parametrize("command", [[], ["event"], ["event", "create"], ["tickets", "add"], ["reserve"], ["watch"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0


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
