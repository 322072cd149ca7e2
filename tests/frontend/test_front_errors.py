"""Every refusal is a google.rpc.Status with a stable reason, under the HTTP status that it deserves."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from chassis.errors import CallError, invalid, not_found, overloaded, unavailable
from tests.e2e.house import House
from tests.frontend.alone import Alone, alone, desk
from tests.frontend.servicer import Desk
from tests.frontend.visitors import Refused, Visitors, bearer, new_id, refused

JSON = {"content-type": "application/json"}
SOMEWHERE = "/v1/reservations/00000000-0000-8000-8000-000000000000"


@pytest.fixture(scope="module")
async def scene(program: str) -> AsyncIterator[tuple[Desk, Alone]]:
    async with desk() as (played, address), alone(program, address) as front:
        yield played, front


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("POST", "/", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/index.html", 404, "UNKNOWN_PATH"),
        ("GET", "/v1", 404, "UNKNOWN_PATH"),
        ("GET", "/v1/nothing", 404, "UNKNOWN_PATH"),
        ("GET", "/v1/events/", 404, "UNKNOWN_PATH"),
        ("GET", "/v1//events", 404, "UNKNOWN_PATH"),
        ("GET", "/v1/%2e%2e/v1/events", 404, "UNKNOWN_PATH"),
        ("GET", "/v1/events/a:b", 404, "UNKNOWN_PATH"),
        ("GET", "/v1/events/%FF", 400, "MALFORMED_REQUEST"),
        ("GET", "/healthz/", 404, "UNKNOWN_PATH"),
        ("POST", "/v1/session", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/v1/events", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", SOMEWHERE, 405, "METHOD_NOT_ALLOWED"),
        ("HEAD", "/v1/events", 405, ""),
        ("OPTIONS", "/v1/events", 405, "METHOD_NOT_ALLOWED"),
        ("GET", f"{SOMEWHERE}:pay", 405, "METHOD_NOT_ALLOWED"),
        ("POST", f"{SOMEWHERE}:watch", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/healthz", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/docs", 405, "METHOD_NOT_ALLOWED"),
        ("BREW", "/v1/events", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_what_is_no_call_is_told_so(
    scene: tuple[Desk, Alone], method: str, path: str, status: int, reason: str
) -> None:
    _, front = scene
    if path == "/v1/session":
        # Here nobody signs in: the path is that of nothing, which is no reservation either.
        status, reason = 404, "UNKNOWN_PATH"
    response = await front.client.request(method, f"http://{front.address}{path}")
    assert response.status_code == status
    assert method == "HEAD" or refused(response).reason == reason
    if status == 405:
        allowed = response.headers["allow"].split(", ")
        assert allowed
        assert method not in allowed


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"buyer_id": "ada"} {}',
        b'{"buyer_id": "ada",}',
        b"[]",
        b'"ada"',
        b"null",
        b"7",
        b'{"buyer": "ada"}',
        b'{"buyer_id": 7}',
        b'{"buyer_id": ["ada"]}',
        b'{"ticket_ids": "one"}',
        b'{"best_available": 2}',
        b'{"best_available": {"quantity": "many"}}',
        b'{"best_available": {"quantity": 2.5}}',
        b'{"best_available": {"quantity": 99999999999}}',
        b'{"wait": 2}',
        b'{"wait": "soon"}',
        b'{"buyer_id": "ada", "buyer_id": "bob"}',
        b'{"buyer_id": "ada", "buyerId": "bob"}',
        b'{"buyer_id": "\xff"}',
        b'{"buyer_id": "\\ud800"}',
        b'{"a": ' * 20_000 + b"1" + b"}" * 20_000,
        b"[" * 60_000,
    ],
)
async def test_a_body_that_is_no_message_of_the_call_goes_no_further(scene: tuple[Desk, Alone], body: bytes) -> None:
    played, front = scene
    before = len(played.requests)
    response = await front.client.post("/v1/reservations", content=body, headers=JSON)
    if len(body) > 65_536:
        assert refused(response) == Refused(413, 3, "REQUEST_TOO_LARGE")
    else:
        assert refused(response) == Refused(400, 3, "MALFORMED_REQUEST")
    assert "\u00a0" not in response.json()["message"]
    assert len(played.requests) == before


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("page_size=many", "page_size"),
        ("page_size=99999999999", "page_size"),
        ("page_size=1&page_size=2", "page_size"),
        ("page_sise=1", "there are: page_size, page_token"),
        ("page_token.x=1", "page_token.x"),
        ("page_size[1]=1", "page_size"),
        ("page_token=%zz", "%zz"),
        ("page_token=a;b", "semicolon"),
        ("page_token=%ff", "UTF-8"),
    ],
)
async def test_a_query_that_the_call_does_not_know_goes_no_further(
    scene: tuple[Desk, Alone], query: str, told: str
) -> None:
    played, front = scene
    before = len(played.requests)
    response = await front.client.get(f"http://{front.address}/v1/events?{query}")
    assert refused(response) == Refused(400, 3, "MALFORMED_REQUEST")
    assert told in response.json()["message"]
    assert len(played.requests) == before


async def test_what_is_not_json_or_has_a_query_is_no_write(scene: tuple[Desk, Alone]) -> None:
    _, front = scene
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""):
        response = await front.client.post("/v1/reservations", content=b"{}", headers={"content-type": kind})
        assert refused(response) == Refused(415, 3, "UNSUPPORTED_CONTENT")
    response = await front.client.post("/v1/reservations", content=b"{}", headers=JSON | {"content-encoding": "gzip"})
    assert refused(response) == Refused(415, 3, "UNSUPPORTED_CONTENT")
    response = await front.client.post("/v1/reservations?wait=2s", content=b"{}", headers=JSON)
    assert refused(response) == Refused(400, 3, "MALFORMED_REQUEST")
    response = await front.client.post(
        "/v1/reservations", content=b"{}", headers={"content-type": "application/json; charset=utf-8"}
    )
    assert response.status_code == 200


CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.CANCELLED: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_what_the_gateway_refuses_is_told_as_it_stands(scene: tuple[Desk, Alone], code: grpc.StatusCode) -> None:
    played, front = scene
    played.refusal = CallError(code, "SOME_REASON", "why not")
    try:
        response = await front.client.get("/v1/events")
    finally:
        played.refusal = None
    assert refused(response) == Refused(CODES[code], code.value[0], "SOME_REASON")
    assert response.json()["message"] == "why not"
    assert ("www-authenticate" in response.headers) == (code == grpc.StatusCode.UNAUTHENTICATED)


@pytest.mark.parametrize(
    ("refusal", "expected", "seconds"),
    [
        (overloaded("RATE_LIMITED", "later", 2.3), Refused(429, 8, "RATE_LIMITED"), "3"),
        (overloaded("OVERLOADED", "later", 0.05), Refused(429, 8, "OVERLOADED"), "1"),
        (unavailable("DATABASE_UNAVAILABLE", "down"), Refused(503, 14, "DATABASE_UNAVAILABLE"), None),
        (not_found("UNKNOWN_EVENT", "none"), Refused(404, 5, "UNKNOWN_EVENT"), None),
        (
            invalid({"buyer_id": "must be", "wait": "must not"}),
            Refused(400, 3, "INVALID_ARGUMENT", frozenset({"buyer_id", "wait"})),
            None,
        ),
        (
            CallError(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_LARGE", "large"),
            Refused(413, 3, "REQUEST_TOO_LARGE"),
            None,
        ),
    ],
    ids=lambda value: value.reason if isinstance(value, CallError) else None,
)
async def test_details_come_along_and_the_time_to_wait_is_a_header_too(
    scene: tuple[Desk, Alone], refusal: CallError, expected: Refused, seconds: str | None
) -> None:
    played, front = scene
    played.refusal = refusal
    try:
        response = await front.client.post("/v1/reservations", json={})
    finally:
        played.refusal = None
    assert refused(response) == expected
    assert response.headers.get("retry-after") == seconds


async def test_a_call_that_the_gateway_does_not_know_is_an_error_of_ours(scene: tuple[Desk, Alone]) -> None:
    """It tells nothing of what is inside."""
    _, front = scene
    response = await front.client.get(SOMEWHERE)
    assert refused(response) == Refused(500, 13, "INTERNAL")
    assert response.json()["message"] == "an error on our side; it has been logged"


async def test_a_gateway_that_is_not_there_is_told_without_its_address(program: str) -> None:
    async with alone(program) as front:
        response = await front.client.get("/v1/events")
        assert refused(response) == Refused(503, 14, "GATEWAY_UNAVAILABLE")
        assert response.headers["retry-after"] == "1"
        assert "127.0.0.1" not in response.text
        watch = await front.client.get(f"/v1/events/{new_id()}/tickets:watch")
        assert refused(watch) == Refused(503, 14, "GATEWAY_UNAVAILABLE")
        ready, alive = await front.client.get("/readyz"), await front.client.get("/healthz")
        assert (refused(ready).status, alive.status_code) == (503, 200)


async def test_the_product_itself_refuses_as_its_contract_says(house: House, visitors: Visitors) -> None:
    event_id, tickets = await visitors.put_on_sale(1)
    ada, olga = visitors.as_("buyer", "ada"), visitors.as_("organiser", "olga")
    right: dict[str, Any] = {"request_id": new_id(), "event_id": event_id, "buyer_id": "ada", "ticket_ids": tickets}
    paths = "/v1/reservations"
    assert refused(await visitors.post(paths, right)) == Refused(401, 16, "TOKEN_MISSING")
    assert refused(await visitors.post(paths, right, bearer("nonsense"))) == Refused(401, 16, "TOKEN_INVALID")
    assert refused(await visitors.post(paths, right, olga)) == Refused(403, 7, "NOT_ALLOWED")
    wrong = right | {"request_id": "x", "ticket_ids": []}
    refusal = refused(await visitors.post(paths, wrong, ada))
    assert (refusal.status, refusal.reason) == (400, "INVALID_ARGUMENT")
    assert "request_id" in refusal.fields
    assert (await visitors.post(paths, right, ada)).status_code == 200
    again = right | {"ticket_ids": [new_id()]}
    assert refused(await visitors.post(paths, again, ada)) == Refused(409, 6, "REQUEST_ID_REUSED")
    assert refused(await visitors.get(f"{paths}/{new_id()}", ada)) == Refused(404, 5, "UNKNOWN_RESERVATION")
    refund = {"request_id": new_id(), "reason": "why"}
    held = (await visitors.post(paths, right, ada)).json()["reservation"]["reservation_id"]
    assert refused(await visitors.post(f"{paths}/{held}:refund", refund, olga)) == Refused(400, 9, "NOT_CONFIRMED")
    # Larger than a right one, as the gateway knows better than we do.
    large = right | {"ticket_ids": [new_id()] * 500}
    assert refused(await visitors.post(paths, large, ada)) == Refused(413, 3, "REQUEST_TOO_LARGE")
    assert json.loads(house.stack.log("frontend").read_text().splitlines()[0])["message"] == "listening"
