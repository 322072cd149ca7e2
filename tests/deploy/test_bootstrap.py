"""The virtual environment is renewed when what it is made of changed, and only then."""

from pathlib import Path

import pytest

from deploy import bootstrap
from deploy.errors import StackError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose environment is fresh."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(f"# {name}\n")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "installed")
    monkeypatch.setattr(bootstrap, "works", lambda: True)
    bootstrap.STAMP.write_text(bootstrap.fingerprint())
    return tmp_path


@pytest.mark.usefixtures("checkout")
def test_what_is_fresh_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "install_packages", lambda: pytest.fail("installed again"))
    bootstrap.main()


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_other_packages_make_it_stale(checkout: Path, name: str) -> None:
    (checkout / name).write_text("changed\n")
    assert not bootstrap.is_fresh()


def test_another_place_makes_it_stale(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (elsewhere / name).write_bytes((checkout / name).read_bytes())
    monkeypatch.setattr(bootstrap, "ROOT", elsewhere)
    assert not bootstrap.is_fresh()


@pytest.mark.usefixtures("checkout")
def test_a_broken_python_makes_it_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "works", lambda: False)
    assert not bootstrap.is_fresh()


def test_a_python_that_is_not_there_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "PYTHON", tmp_path / "python")
    assert not bootstrap.works()


def test_an_install_that_failed_is_tried_again_and_shows_its_end(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\necho Collecting one\necho ERROR: no network\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(bootstrap, "PYTHON", pip)
    monkeypatch.setattr(bootstrap, "RUN_DIR", tmp_path / "run")
    monkeypatch.setattr(bootstrap, "LOG", tmp_path / "run" / "install.log")
    (checkout / "constraints.txt").write_text("one==1\n")
    with pytest.raises(StackError, match="ERROR: no network"):
        bootstrap.main()
    assert not bootstrap.is_fresh()
