"""The local issuer: its key is kept and kept secret, its tokens are renewed in time."""

import json
import stat
import time
from pathlib import Path

import jwt
import pytest

from chassis.keys import parse
from deploy.errors import StackError
from deploy.issuer import AUDIENCE, FRONTEND_TOKEN_FILE, NAME, OPERATOR_TOKEN, OPERATOR_TOKEN_S, Issuer, token


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    issuer = Issuer(tmp_path / "issuer")
    issuer.prepare()
    return issuer


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def claims(issuer: Issuer, text: str) -> dict[str, object]:
    [key] = parse(issuer.jwks_file.read_bytes(), "here").values()
    told: dict[str, object] = jwt.decode(text, key, ["RS256"], audience=AUDIENCE, issuer=NAME)
    return told


def test_the_key_is_its_owners_alone_and_what_verifies_it_is_for_all(issuer: Issuer) -> None:
    assert mode(issuer.key_file) == 0o600
    assert (mode(issuer.public_folder), mode(issuer.jwks_file)) == (0o755, 0o644)
    assert issuer.key_file.parent != issuer.public_folder
    assert "PRIVATE KEY" in issuer.key_file.read_text()
    [jwk] = json.loads(issuer.jwks_file.read_text())["keys"]
    assert jwk.keys() == {"kty", "use", "alg", "kid", "n", "e"}


def test_the_key_stays_and_a_lost_key_set_is_made_again(issuer: Issuer) -> None:
    key, key_set = issuer.key_file.read_text(), issuer.jwks_file.read_text()
    issuer.jwks_file.unlink()
    issuer.prepare()
    assert (issuer.key_file.read_text(), issuer.jwks_file.read_text()) == (key, key_set)


def test_an_operators_token_is_kept_for_half_its_life(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = issuer.facts({})
    told = claims(issuer, first[OPERATOR_TOKEN])
    assert (told["sub"], told["roles"]) == ("operator", ["operator"])
    assert issuer.facts(first) == first
    later = time.time() + OPERATOR_TOKEN_S / 2 + 60
    monkeypatch.setattr("deploy.issuer.time.time", lambda: later)
    renewed = issuer.facts(first)[OPERATOR_TOKEN]
    assert renewed != first[OPERATOR_TOKEN]
    assert jwt.decode(renewed, options={"verify_signature": False})["exp"] == int(later) + OPERATOR_TOKEN_S


def test_the_http_front_has_a_reading_token_in_a_file_that_only_its_owner_reads(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(issuer.facts({})[FRONTEND_TOKEN_FILE])
    first = file.read_text()
    told = claims(issuer, first)
    assert (told["sub"], told["roles"]) == ("frontend", ["service"])
    assert mode(file) == 0o600
    issuer.facts({})
    assert file.read_text() == first
    later = time.time() + OPERATOR_TOKEN_S / 2 + 60
    monkeypatch.setattr("deploy.issuer.time.time", lambda: later)
    issuer.facts({})
    assert file.read_text() != first


def test_a_token_of_another_key_is_renewed(issuer: Issuer, tmp_path: Path) -> None:
    other = Issuer(tmp_path / "other")
    other.prepare()
    before = other.facts({})
    assert issuer.facts(before)[OPERATOR_TOKEN] != before[OPERATOR_TOKEN]


@pytest.mark.parametrize("content", [None, "no key"])
def test_without_a_key_it_says_what_to_do(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key.pem"
    if content:
        file.write_text(content)
    with pytest.raises(StackError, match="make up"):
        token(file, "ada", ["buyer"], 60)
