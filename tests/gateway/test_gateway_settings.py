"""A gateway that others can reach does not start without knowing them apart."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security import forge

ADDRESSES = {
    "LISTEN_ADDRESS": "0.0.0.0:0",
    "PUBLIC_PLAINTEXT": "yes",
    "METRICS_ADDRESS": "127.0.0.1:0",
    "AMQP_URL": "amqp://127.0.0.1:1/",
    "RESERVATIONS_ADDRESS": "127.0.0.1:1",
    "PAYMENTS_ADDRESS": "127.0.0.1:1",
}
ISSUER = {"AUTH_ISSUER": forge.NAME, "AUTH_AUDIENCE": forge.AUDIENCE}


def started(**settings: str) -> tuple[int, str]:
    """With which code the gateway ends, and what it says."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TICKETRUSH_")}
    own |= {f"TICKETRUSH_{name}": value for name, value in (ADDRESSES | settings).items()}
    done = subprocess.run(
        [sys.executable, "-m", "gateway"], env=own, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "gateway.example:0", "10.0.0.1:0"])
def test_off_loopback_it_does_not_start_without_an_issuer(address: str) -> None:
    code, said = started(LISTEN_ADDRESS=address)
    assert code == 2
    assert all(f"TICKETRUSH_{name}" in said for name in ("LISTEN_ADDRESS", "AUTH_JWKS", *ISSUER))


def test_a_key_set_alone_does_not_say_whose_tokens_count(tmp_path: Path) -> None:
    code, said = started(AUTH_JWKS=str(tmp_path / "jwks.json"), AUTH_ISSUER="someone")
    assert code == 2
    assert "TICKETRUSH_AUTH_AUDIENCE" in said


def test_a_key_set_without_a_usable_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text('{"keys": [{"kty": "EC"}]}')
    code, said = started(AUTH_JWKS=str(file), **ISSUER)
    assert code == 2
    assert f"TICKETRUSH_AUTH_JWKS: {file} has no usable key" in said
    assert "Traceback" not in said


def test_keys_are_not_taken_from_the_open_network() -> None:
    code, said = started(AUTH_JWKS="http://issuer.example/jwks.json", **ISSUER)
    assert code == 2
    assert "TICKETRUSH_AUTH_JWKS: must be https://" in said
