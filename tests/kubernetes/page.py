"""The page for people, and what its commands make."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from tests.kubernetes.render import ROOT

TEXT: Final = (ROOT / "docs" / "kubernetes.md").read_text()
# Records what it is told to make, one literal a line.
KUBECTL: Final = """#!/bin/sh
[ "$3 $4 $5" != "create secret generic" ] || { name=$6; shift 6; for one; do echo "$name $one" >> "$RECORD"; done; }
"""


def block(language: str, word: str) -> str:
    """The one block of code that has this word."""
    [found] = [
        text for text in re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE) if word in text
    ]
    return str(found)


def secrets_made(folder: Path) -> dict[tuple[str, str], str]:
    """The secrets that the page's commands make, by name and key, by a kubectl of our own in the folder."""
    program = folder / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "RECORD": str(folder / "record")}
    command = ["sh", "-euc", block("sh", "secret frontend")]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, timeout=60)
    found = {}
    for line in (folder / "record").read_text().splitlines():
        name, _, told = line.partition(" ")
        option, _, rest = told.partition("=")
        key, _, value = rest.partition("=")
        assert option in {"--from-literal", "--from-file"}
        found[name, key] = value
    return found
