"""What browsers need: who may call from which page, compression, safe headers, and a document to read."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.frontend.alone import Alone, alone, desk
from tests.frontend.servicer import Desk
from tests.frontend.visitors import Refused, found, new_id, refused
from ticketrush.v1 import catalog_pb2, ticketing_pb2

ROOT = Path(__file__).parents[2]
SHOP = "https://shop.example"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,idempotency-key"}


@pytest.fixture(scope="module")
async def scene(program: str) -> AsyncIterator[tuple[Desk, Alone]]:
    origins = f"{SHOP},http://localhost:3000"
    async with desk() as (played, address), alone(program, address, CORS_ORIGINS=origins) as front:
        yield played, front


async def test_pages_of_the_named_origins_may_call_and_no_others(scene: tuple[Desk, Alone]) -> None:
    _, front = scene
    response = await front.client.options("/v1/reservations", headers={"origin": SHOP} | PREFLIGHT)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == SHOP
    assert "idempotency-key" in response.headers["access-control-allow-headers"].lower()
    response = await front.client.get("/v1/events", headers={"origin": SHOP})
    assert response.headers["access-control-allow-origin"] == SHOP
    assert "retry-after" in response.headers["access-control-expose-headers"].lower()
    # Errors can be read, too.
    response = await front.client.post("/v1/events?x", headers={"origin": SHOP})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (400, SHOP)
    for origin in ("https://evil.example", "https://shop.example.evil.example", "http://shop.example", "null"):
        for method, headers in (("OPTIONS", PREFLIGHT), ("GET", {})):
            response = await front.client.request(method, "/v1/events", headers={"origin": origin} | headers)
            assert "access-control-allow-origin" not in response.headers
        assert "access-control-allow-credentials" not in response.headers


async def test_without_origins_no_page_from_elsewhere_may_call(program: str) -> None:
    async with desk() as (_, address), alone(program, address) as front:
        response = await front.client.options("/v1/events", headers={"origin": SHOP} | PREFLIGHT)
        assert refused(response) == Refused(405, 12, "METHOD_NOT_ALLOWED")
        response = await front.client.get("/v1/events", headers={"origin": SHOP})
        assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_large_answers_are_compressed_for_whoever_takes_that_and_streams_are_not(
    scene: tuple[Desk, Alone],
) -> None:
    played, front = scene
    played.events = 200
    try:
        plain = await front.client.get("/v1/events", headers={"accept-encoding": "identity"})
        small = await front.client.get("/v1/events", headers={"accept-encoding": "gzip"})
        refusing = await front.client.get("/v1/events", headers={"accept-encoding": "gzip;q=0"})
    finally:
        played.events = 0
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in refusing.headers
    assert small.headers["content-encoding"] == "gzip"
    assert len(found(small)["events"]) == 200
    assert small.num_bytes_downloaded < len(plain.content) / 5
    assert "accept-encoding" in plain.headers["vary"].lower()
    tiny = await front.client.get("/v1/events", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in tiny.headers
    await played.tell(ticketing_pb2.WatchTicketsResponse(snapshot_complete=True))
    path = f"/v1/events/{new_id()}/tickets:watch"
    headers = {"accept": "text/event-stream", "accept-encoding": "gzip"}
    async with front.client.stream("GET", path, headers=headers) as response:
        assert "content-encoding" not in response.headers


async def test_every_answer_has_the_headers_that_keep_browsers_safe(scene: tuple[Desk, Alone]) -> None:
    _, front = scene
    for path in ("/v1/events", "/", "/docs", "/docs.css", "/openapi.json", "/healthz", "/readyz", "/v1/payments/x"):
        response = await front.client.get(path)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        rules = dict(
            rule.strip().partition(" ")[::2] for rule in response.headers["content-security-policy"].split(";")
        )
        assert (rules["default-src"], rules["frame-ancestors"]) == ("'none'", "'none'")
        assert "server" not in response.headers
    assert (await front.client.get("/v1/events")).headers["cache-control"] == "no-store"


async def test_the_page_for_people_names_every_call_and_takes_nothing_from_elsewhere(scene: tuple[Desk, Alone]) -> None:
    _, front = scene
    page = await front.client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    document = (await front.client.get("/openapi.json")).json()
    for path in document["paths"]:
        assert f"<code>{path}</code>" in page.text
    for name in document["definitions"]:
        assert f'id="{name}"' in page.text
    assert "<script" not in page.text
    assert " style=" not in page.text
    assert set(re.findall(r'(?:href|src)="([^"#][^"]*)"', page.text)) == {"/docs.css", "/openapi.json"}
    assert set(re.findall(r'href="#([^"]+)"', page.text)) <= set(re.findall(r'id="([^"]+)"', page.text))
    assert "url(" not in (await front.client.get("/docs.css")).text


async def test_the_document_is_the_one_that_is_generated_and_has_every_call(scene: tuple[Desk, Alone]) -> None:
    _, front = scene
    document: dict[str, Any] = (await front.client.get("/openapi.json")).json()
    assert document == json.loads((ROOT / "gen/openapi/ticketrush.swagger.json").read_text())
    called = {operation["operationId"] for methods in document["paths"].values() for operation in methods.values()}
    services = [
        ticketing_pb2.DESCRIPTOR.services_by_name["TicketingService"],
        catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"],
    ]
    assert called == {f"{service.name}_{rpc.name}" for service in services for rpc in service.methods}
