"""A page token goes on where it says, for the call that gave it, and for no other."""

from collections.abc import Callable

import grpc
import pytest

from chassis.errors import CallError
from chassis.paging import TOKEN_LENGTH_MAX, PageTokens

FILTERS = "ListThings buyer=anna"
POSITION = "2026-01-01T00:00:00.000001|0b5e2c1c-8d0e-8f5e-9d3a-111111111111"
tokens = PageTokens(b"a secret")


def test_a_token_gives_its_position_back() -> None:
    assert tokens.decode(FILTERS, tokens.encode(FILTERS, POSITION), str) == POSITION


def test_the_empty_token_asks_for_the_first_page() -> None:
    assert tokens.decode(FILTERS, "", str) is None


def test_a_token_is_the_same_on_every_replica_and_after_a_restart() -> None:
    token = tokens.encode(FILTERS, POSITION)
    assert PageTokens(b"a secret").decode(FILTERS, token, str) == POSITION


def test_a_token_of_other_filters_is_refused() -> None:
    token = tokens.encode("ListThings buyer=bert", POSITION)
    assert _refusal(token) == {"page_token": "was not given by this call with the same filters"}


def test_filters_and_position_cannot_be_shifted_into_each_other() -> None:
    token = tokens.encode(FILTERS[:-1], FILTERS[-1] + POSITION)
    assert _refusal(token)


def test_a_token_under_another_secret_is_refused() -> None:
    assert _refusal(PageTokens(b"another secret").encode(FILTERS, POSITION))


def test_every_single_changed_character_is_noticed() -> None:
    token = tokens.encode(FILTERS, POSITION)
    for place, character in enumerate(token):
        altered = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        assert _refusal(altered), place


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1],
        lambda token: token + "A",
        lambda token: token + "=",
        lambda token: token[:20] + "!" + token[20:],
        lambda token: token + "\n",
        lambda _: "A",
        lambda _: "ABCD",
        lambda _: "not a token",
        lambda _: "ü",
        lambda _: "_" * 40,
        lambda _: "A" * (TOKEN_LENGTH_MAX + 1),
    ],
)
def test_what_is_not_a_token_is_refused(spoil: Callable[[str], str]) -> None:
    assert _refusal(spoil(tokens.encode(FILTERS, POSITION)))


def test_a_position_that_the_call_cannot_read_is_refused_though_the_secret_is_known() -> None:
    assert _refusal(tokens.encode(FILTERS, "not a number"), int) == {
        "page_token": "was not given by this call with the same filters"
    }


def _refusal(token: str, read: Callable[[str], object] = str) -> dict[str, str]:
    with pytest.raises(CallError) as caught:
        tokens.decode(FILTERS, token, read)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    return dict(caught.value.violations)
