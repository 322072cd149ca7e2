"""The tests that are part of the program: of what cannot be seen from outside."""

import os
import subprocess

from deploy import golang
from deploy.frontend import SOURCE

TIMEOUT_S = 280


def test_the_programs_own_tests_pass() -> None:
    command = [golang.compiler_for(SOURCE), "test", "./..."]
    environment = os.environ | {"CGO_ENABLED": "0"}
    done = subprocess.run(
        command, cwd=SOURCE, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
