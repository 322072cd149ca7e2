"""Go programs are built by whatever compiler will do, and again only when their source has changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import golang

PROGRAM = 'package main\n\nfunc main() { println("%s") }\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "go.mod").write_text("module hello\n\ngo 1.24\n")
    (folder / "main.go").write_text(PROGRAM % "one")
    return folder


def test_a_program_is_built_again_only_when_its_source_has_changed(source: Path, tmp_path: Path) -> None:
    program = golang.build(source, tmp_path / "bin/hello")
    inode = program.stat().st_ino
    assert golang.build(source, program).stat().st_ino == inode
    (source / "main.go").write_text(PROGRAM % "two")
    golang.build(source, program)
    said = subprocess.run([program], capture_output=True, text=True, timeout=30, check=True).stderr
    assert said == "two\n"


def test_a_compiler_that_is_too_old_is_not_the_end(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("go") or golang._installed_compiler()
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho \"go.mod:3: invalid go version '1.26.0'\" >&2\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(golang, "_installed_compiler", lambda: real)
    assert golang.build(source, tmp_path / "hello").exists()
    assert golang.compiler_for(source) == real
    monkeypatch.setattr(golang, "_installed_compiler", lambda: str(old))
    with pytest.raises(golang.BuildError, match="invalid go version"):
        golang.build(source, tmp_path / "again")


def test_it_can_be_asked_as_a_command(source: Path) -> None:
    command = [sys.executable, "-m", "deploy.golang", "list", "-m"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "hello\n"
