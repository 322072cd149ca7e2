"""The example listener, where it has nothing to listen to. With a broker it is in tests/e2e/test_e2e_docs.py."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "docs/examples/listen_expired.py"


def test_without_a_broker_it_says_in_one_line_what_to_set() -> None:
    env = {name: value for name, value in os.environ.items() if name != "AMQP_URL"}
    ended = subprocess.run([sys.executable, EXAMPLE], env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "AMQP_URL" in ended.stderr
    assert ".run/stack.env" in ended.stderr
