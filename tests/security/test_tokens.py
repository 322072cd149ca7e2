"""Whose token is accepted, and how every other one is refused."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis import tokens
from chassis.callers import Caller
from chassis.errors import CallError
from chassis.tokens import LEEWAY_S, TOKEN_LENGTH_MAX, Verifier
from contract.access import ROLES
from tests.security import forge
from tests.security.forge import altered, bearer, key_set, refusal, signed, signed_bytes, unsigned, with_parts


def now() -> int:
    return int(time.time())


@pytest.fixture
async def verifier(tmp_path: Path) -> Verifier:
    (tmp_path / "jwks.json").write_text(key_set("current", "next"))
    verifier = forge.verifier(tmp_path / "jwks.json")
    await verifier.open()
    return verifier


async def test_a_caller_is_who_the_token_says_in_the_roles_that_there_are(verifier: Verifier) -> None:
    end = now() + 600
    token = signed(sub="ada@example.com", roles=["buyer", "emperor"], exp=end)
    caller = await verifier.caller(bearer(token))
    assert caller == Caller("ada@example.com", frozenset({"buyer"}), end + LEEWAY_S)


async def test_any_key_of_the_set_counts(verifier: Verifier) -> None:
    assert (await verifier.caller(bearer(signed("next")))).subject == "ada"


async def test_who_names_no_roles_has_none(verifier: Verifier) -> None:
    assert (await verifier.caller(bearer(signed(roles=None)))).roles == frozenset()


async def test_a_call_without_a_token_is_told_what_to_send(verifier: Verifier) -> None:
    with pytest.raises(CallError, match=r"TOKEN_MISSING.*authorization: Bearer") as refused:
        await verifier.caller((("user-agent", "test"),))
    assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED


FORGED: dict[str, Callable[[], str]] = {
    "signed by another key under our key's name": lambda: signed("stranger", kid="current"),
    "signed by a key that is not in the set": lambda: signed("stranger"),
    "another payload under a good signature": lambda: altered(signed(), sub="mallory"),
    "another role under a good signature": lambda: altered(signed(), roles=["operator"]),
    "not signed at all": lambda: unsigned("none"),
    "not signed at all, in capitals": lambda: unsigned("NONE"),
    "RS256 without a signature": lambda: unsigned("RS256"),
    "HS256 with our public key as the secret": lambda: unsigned("HS256", forge.public_pem()),
    "RS256 in the header, HS256 with our public key in truth": lambda: unsigned("RS256", forge.public_pem()),
    "another algorithm of the same key": lambda: jwt.encode(
        forge.claims(), forge.key("current"), algorithm="PS256", headers={"kid": "current"}
    ),
    "no key named": lambda: signed(kid=None),
    "for another audience": lambda: signed(aud="elsewhere"),
    "for no audience": lambda: signed(aud=None),
    "by another issuer": lambda: signed(iss="https://issuer.elsewhere"),
    "by no issuer": lambda: signed(iss=None),
    "that never expires": lambda: signed(exp=None),
    "that was never issued": lambda: signed(iat=None),
    "of nobody": lambda: signed(sub=None),
    "of somebody empty": lambda: signed(sub=""),
    "of a name with a line break": lambda: signed(sub="ada\nbob"),
    "of a name that is endless": lambda: signed(sub="a" * 129),
    "not valid yet": lambda: signed(nbf=now() + 600),
    "with roles that are no list": lambda: signed(roles="operator"),
    "with roles that are no words": lambda: signed(roles=[["operator"]]),
    "with too many roles": lambda: signed(roles=["buyer"] * 17),
    "with an expiry that is no number": lambda: signed(exp="tomorrow"),
    "not a token": lambda: "hello",
    "of empty parts": lambda: "..",
    "of lists in lists": lambda: with_parts(b"[" * 2_000, b"{}"),
    "with a header that is no object": lambda: with_parts(b"[]", b"{}"),
    "with a critical extension that nobody knows": lambda: jwt.encode(
        forge.claims(), forge.key("current"), "RS256", headers={"kid": "current", "crit": ["x"], "x": 1}
    ),
}


@pytest.mark.parametrize("forged", FORGED)
async def test_a_token_is_refused_that_is(verifier: Verifier, forged: str) -> None:
    token = FORGED[forged]()
    # Also after good ones, of which more is remembered.
    await verifier.caller(bearer(signed()))
    error = await refusal(verifier, token)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    told = [part for part in token.split(".") if len(part) > 8 and part in error.message]
    assert not told, "nobody is told what was in a token"
    assert "mallory" not in error.message


async def test_a_token_that_says_its_key_in_another_words_is_not_believed(verifier: Verifier) -> None:
    """The first part of a good token with the rest of a forged one."""
    await verifier.caller(bearer(signed()))
    good_header = signed().partition(".")[0]
    _, payload, signature = signed("stranger", kid="current", sub="mallory").split(".")
    assert (await refusal(verifier, f"{good_header}.{payload}.{signature}")).reason == "TOKEN_INVALID"


async def test_an_infinite_time_is_malformed(verifier: Verifier) -> None:
    assert (await refusal(verifier, signed(exp=float("inf")))).reason == "TOKEN_INVALID"


async def test_clocks_may_differ_by_the_leeway_and_no_more(verifier: Verifier) -> None:
    assert await verifier.caller(bearer(signed(exp=int(time.time()) - LEEWAY_S + 5)))
    assert (await refusal(verifier, signed(exp=int(time.time()) - LEEWAY_S - 1))).reason == "TOKEN_EXPIRED"


async def test_who_has_just_signed_in_is_believed_by_a_gateway_whose_clock_is_behind(verifier: Verifier) -> None:
    assert await verifier.caller(bearer(signed(iat=now() + 3_600)))


async def test_a_token_that_was_known_is_refused_once_it_expires(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = now() + 600
    token = signed(exp=end)
    assert await verifier.caller(bearer(token))
    monkeypatch.setattr("chassis.tokens.time.time", lambda: float(end + LEEWAY_S))
    assert (await refusal(verifier, token)).reason == "TOKEN_EXPIRED"


async def test_a_known_token_is_not_verified_again(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await verifier.caller(bearer(token := signed()))
    monkeypatch.delattr(jwt, "decode")
    assert await verifier.caller(bearer(token)) is first


async def test_the_memory_of_tokens_is_bounded_and_keeps_those_in_use(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED_MAX", 2)
    first, second, third = (bearer(signed(sub=name)) for name in ("ada", "bob", "cleo"))
    known = await verifier.caller(first)
    forgotten = await verifier.caller(second)
    await verifier.caller(first)
    await verifier.caller(third)
    assert await verifier.caller(first) is known
    assert await verifier.caller(second) is not forgotten


async def test_what_is_too_long_is_not_even_read(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(jwt, "get_unverified_header")
    monkeypatch.delattr(jwt, "decode")
    error = await refusal(verifier, "x" * (TOKEN_LENGTH_MAX + 1))
    assert (error.reason, "longer than" in error.message) == ("TOKEN_INVALID", True)


@pytest.mark.parametrize("value", ["Basic YWRhOmFkYQ==", "Bearer", "Bearer ", "token", "\0"])
async def test_another_scheme_is_refused(verifier: Verifier, value: str) -> None:
    with pytest.raises(CallError, match="TOKEN_INVALID"):
        await verifier.caller((("authorization", value),))


async def test_the_scheme_may_be_written_in_any_case(verifier: Verifier) -> None:
    assert (await verifier.caller((("authorization", f"bearer {signed()}"),))).subject == "ada"


_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(["exp", "iat", "nbf", "aud", "iss", "jti", "sub", "roles"]), _json))
async def test_whatever_a_signed_token_says_is_accepted_or_refused(verifier: Verifier, fields: dict[str, Any]) -> None:
    token = signed_bytes(json.dumps(forge.claims() | fields).encode())
    with suppress(CallError):
        assert (await verifier.caller(bearer(token))).roles <= ROLES


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: with_parts(raw, raw, raw)))
async def test_whatever_is_sent_as_a_token_is_refused(verifier: Verifier, value: str) -> None:
    assert (await refusal(verifier, value)).code is grpc.StatusCode.UNAUTHENTICATED
