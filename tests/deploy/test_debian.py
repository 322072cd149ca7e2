"""Packages are installed where we may, and otherwise named in one line."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy import debian
from deploy.debian import install
from deploy.errors import StackError


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `apt-get` that only writes down what it is asked, before any other on PATH, for one who is root."""
    asked = tmp_path / "asked"
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$DEBIAN_FRONTEND" "$@" >> {asked}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return program


def test_apt_is_asked_for_all_at_once_without_questions(apt: Path, tmp_path: Path) -> None:
    said: list[str] = []
    install(["one", "two"], tmp_path / "apt.log", said.append)
    lines = (apt.parent.parent / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["update", "two"]
    assert lines[1].endswith("-y install --no-install-recommends one two")
    assert all(line.startswith("noninteractive ") for line in lines)
    assert said == [f"installing one and two by apt (output in {tmp_path / 'apt.log'})"]


def test_two_at_once_wait_for_each_other(apt: Path, tmp_path: Path) -> None:
    busy, overlapped = tmp_path / "busy", tmp_path / "overlapped"
    apt.write_text(f"#!/bin/sh\nmkdir {busy} || touch {overlapped}\nsleep 0.2\nrmdir {busy}\n")
    with ThreadPoolExecutor() as pool:
        for installed in [pool.submit(install, [name], tmp_path / f"{name}.log", lambda _: None) for name in "ab"]:
            installed.result()
    assert not overlapped.exists()


def test_a_failing_apt_leaves_the_line_to_type_and_where_to_look(apt: Path, tmp_path: Path) -> None:
    apt.write_text("#!/bin/sh\necho no such package\nexit 100\n")
    with pytest.raises(StackError, match=r"could not install one \(see .*apt.log\); .*apt-get install one"):
        install(["one"], tmp_path / "apt.log", lambda _: None)
    assert (tmp_path / "apt.log").read_text() == "no such package\n"


def test_who_may_not_install_is_told_what_to_install(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(apt.parent))  # no sudo there
    said: list[str] = []
    with pytest.raises(StackError, match="missing: one two; as root, install them with: apt-get install one two"):
        install(["one", "two"], tmp_path / "apt.log", said.append)
    assert said == []


def test_where_there_is_no_apt_the_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(StackError, match="missing: one, and there is no apt-get here"):
        install(["one"], tmp_path / "apt.log", lambda _: None)


@pytest.mark.usefixtures("apt")
@pytest.mark.skipif(os.geteuid() != 0, reason="writes where only root may")
def test_debians_own_services_are_kept_from_starting_just_for_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, no_cluster = tmp_path / "policy-rc.d", tmp_path / "createcluster.d" / "ticketrush.conf"
    monkeypatch.setattr(debian, "_POLICY", policy)
    monkeypatch.setattr(debian, "_NO_CLUSTER", no_cluster)
    monkeypatch.setattr(debian, "_SYSTEM_SERVICES", {"one": "service-of-one"})
    (tmp_path / "bin" / "apt-get").write_text(f'#!/bin/sh\n{policy} one start; echo "policy: $?"; cat {no_cluster}\n')
    (tmp_path / "bin" / "update-rc.d").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/disabled\n')
    (tmp_path / "bin" / "update-rc.d").chmod(0o755)
    install(["one"], tmp_path / "apt.log", lambda _: None)
    assert "policy: 101\ncreate_main_cluster = false\n" in (tmp_path / "apt.log").read_text()
    assert (tmp_path / "disabled").read_text() == "service-of-one disable\n"
    assert not policy.exists()
    assert not no_cluster.exists()
