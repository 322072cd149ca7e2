"""What of an HTTP request goes along with its call, and what does not."""

import base64
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.office import eventually
from tests.frontend.alone import Alone, alone, desk
from tests.frontend.servicer import Desk
from tests.frontend.visitors import Refused, bearer, found, new_id, refused

# Never changes: a key that somebody used names the same request for ever.
KEY_SPACE = uuid.UUID("b58f1b4c-6a0a-4c53-9a0e-2f9d4b1f7c11")
OWN = "the-front's-own"


@pytest.fixture(scope="module")
async def scene(program: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Desk, Alone]]:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(OWN + "\n")
    settings = {"TOKEN_FILE": str(file), "TRUSTED_PROXIES": "127.0.0.2,192.0.2.0/24"}
    async with desk() as (played, address), alone(program, address, **settings) as front:
        yield played, front


def unsigned(subject: str) -> str:
    """A token that nobody signed; the gateway would refuse it, the one of this test does not."""
    parts: tuple[dict[str, str], ...] = ({"alg": "none"}, {"sub": subject}, {})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)


async def test_only_what_is_meant_to_goes_along(scene: tuple[Desk, Alone]) -> None:
    played, front = scene
    along = bearer("a-token") | {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "one=two",
        "x-request-id": "call-7",
    }
    not_along = {
        "ticketrush-subject": "eve",
        "ticketrush-roles": "operator",
        "grpc-metadata-ticketrush-subject": "eve",
        "grpcgateway-authorization": "x",
        "grpc-metadata-authorization": "Bearer another",
        "grpc-timeout": "1n",
        "x-forwarded-for": "203.0.113.9",
        "x-forwarded-host": "evil.example",
        "cookie": "a=b",
        "te": "trailers",
        "x-http-method-override": "POST",
    }
    response = await front.client.get("/v1/events", headers=along | not_along)
    assert found(response) == {"events": [], "next_page_token": ""}
    assert response.headers["x-request-id"] == "call-7"
    told = played.metadata[-1]
    assert {name: told[name] for name in along} == along
    assert told["x-forwarded-for"] == "127.0.0.1"
    # The rest is gRPC's own.
    assert told.keys() - along.keys() - {"x-forwarded-for"} <= {"user-agent", "accept-encoding", "grpc-accept-encoding"}
    assert not [name for name in response.headers if name.startswith(("grpc-", "trailer"))]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "203.0.113.9", "127.0.0.1"),
        ("127.0.0.2", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.2", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.2", "nonsense", "127.0.0.2"),
        ("127.0.0.2", "", "127.0.0.2"),
    ],
)
async def test_for_whom_it_calls_is_the_peer_unless_that_is_a_proxy_of_ours(
    scene: tuple[Desk, Alone], peer: str, forwarded: str, client: str
) -> None:
    played, front = scene
    transport = httpx.AsyncHTTPTransport(local_address=peer)
    async with httpx.AsyncClient(base_url=f"http://{front.address}", transport=transport) as caller:
        found(await caller.get("/v1/events", headers={"x-forwarded-for": forwarded}))
    assert played.metadata[-1]["x-forwarded-for"] == client


async def test_who_brings_no_token_reads_with_ours_what_is_on_sale_and_nothing_else(scene: tuple[Desk, Alone]) -> None:
    played, front = scene
    found(await front.client.get("/v1/events"))
    assert played.metadata[-1]["authorization"] == f"Bearer {OWN}"
    found(await front.client.get("/v1/events", headers=bearer("his")))
    assert played.metadata[-1]["authorization"] == "Bearer his"
    found(await front.client.post("/v1/reservations", json={"buyer_id": "ada"}))
    assert "authorization" not in played.metadata[-1]


async def test_our_token_is_read_again_when_its_file_changes(program: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    async with desk() as (played, address), alone(program, address, TOKEN_FILE=str(file)) as front:
        found(await front.client.get("/v1/events"))
        assert played.metadata[-1]["authorization"] == "Bearer first"
        file.write_text("second")

        async def shows_the_second() -> bool:
            found(await front.client.get("/v1/events"))
            return played.metadata[-1]["authorization"] == "Bearer second"

        await eventually(shows_the_second, lambda: "it still shows the first token")


async def test_a_header_that_no_call_can_bear_is_refused(scene: tuple[Desk, Alone]) -> None:
    _, front = scene
    for name in ("authorization", "x-request-id", "idempotency-key"):
        headers = {name.encode(): "caf\u00e9".encode()}
        assert refused(await front.client.get("/v1/events", headers=headers)) == Refused(400, 3, "MALFORMED_REQUEST")


async def test_a_key_stands_for_the_request_id(scene: tuple[Desk, Alone]) -> None:
    played, front = scene
    ada = bearer(unsigned("ada"))
    uuid_key = new_id()

    async def sent(key: str, body: dict[str, object], headers: dict[str, str] = ada) -> str:
        found(await front.client.post("/v1/reservations", json=body, headers=headers | {"idempotency-key": key}))
        return str(played.requests[-1].request_id)

    assert await sent(uuid_key, {}) == uuid_key
    assert await sent(f'"{uuid_key.upper()}"', {}) == uuid_key
    assert await sent(uuid_key, {"request_id": uuid_key}) == uuid_key
    derived = await sent("order 1", {})
    assert derived == str(uuid.uuid5(KEY_SPACE, "ada\norder 1"))
    assert await sent("order 1", {"request_id": derived}) == derived
    # "1" is a key that two may think of.
    assert await sent("order 1", {}, bearer(unsigned("bob"))) != derived
    # A body that has its own and no key is passed on as it is.
    await front.client.post("/v1/reservations", json={"request_id": "nonsense"}, headers=ada)
    assert played.requests[-1].request_id == "nonsense"


async def test_a_key_that_differs_from_the_request_id_is_refused(scene: tuple[Desk, Alone]) -> None:
    played, front = scene
    before = len(played.requests)
    for key in (new_id(), "order 1"):
        headers = {"idempotency-key": key}
        response = await front.client.post("/v1/reservations", json={"request_id": new_id()}, headers=headers)
        assert refused(response) == Refused(400, 3, "IDEMPOTENCY_KEY_MISMATCH", frozenset({"request_id"}))
    response = await front.client.post("/v1/reservations", json={}, headers={"idempotency-key": "x" * 256})
    assert refused(response) == Refused(400, 3, "MALFORMED_REQUEST")
    assert len(played.requests) == before


async def test_what_the_path_says_the_body_may_not_say_again(scene: tuple[Desk, Alone]) -> None:
    played, front = scene
    found(await front.client.post("/v1/reservations/here:pay", json={"buyer_id": "ada"}))
    assert played.requests[-1].reservation_id == "here"
    for name in ("reservation_id", "reservationId"):
        response = await front.client.post("/v1/reservations/here:pay", json={name: "there"})
        assert refused(response) == Refused(400, 3, "MALFORMED_REQUEST", frozenset({"reservation_id"}))
    body = {"event": {"event_id": "there"}}
    response = await front.client.post("/v1/events/here:update", json=body)
    assert refused(response) == Refused(400, 3, "MALFORMED_REQUEST", frozenset({"event.event_id"}))
