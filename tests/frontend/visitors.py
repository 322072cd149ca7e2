"""Callers of the HTTP front, and what they see of it."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import httpx

from deploy.issuer import Issuer
from deploy.issuer import token as signed

TOKEN_S: Final = 3_600
STREAM_TIMEOUT_S: Final = 30
EVENTS: Final = {"accept": "text/event-stream"}
INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
FIELDS: Final = "type.googleapis.com/google.rpc.BadRequest"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@dataclass
class Visitors:
    client: httpx.AsyncClient
    issuer: Issuer

    def as_(self, role: str, subject: str) -> dict[str, str]:
        """The header of somebody in this role."""
        return bearer(signed(self.issuer.key_file, subject, [role], TOKEN_S))

    async def get(self, path: str, headers: Mapping[str, str] | None = None, **query: str) -> httpx.Response:
        return await self.client.get(path, headers=headers, params=query)

    async def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return await self.client.post(path, json=body, headers=headers)

    async def put_on_sale(self, tickets: int, organiser: str = "olga") -> tuple[str, list[str]]:
        """A new event with one row of seats: its id, and theirs."""
        headers = self.as_("organiser", organiser)
        event = {"name": "Hamlet", "currency": "EUR"}
        made = await self.post("/v1/events", {"request_id": new_id(), "event": event}, headers)
        event_id = found(made)["event"]["event_id"]
        block = {"section": "stalls", "price_minor": 4500, "grid": {"rows": 1, "seats_per_row": tickets}}
        await self.post(f"/v1/events/{event_id}/tickets", {"request_id": new_id(), "blocks": [block]}, headers)
        page = found(await self.get(f"/v1/events/{event_id}/tickets", page_size="1000"))
        assert len(page["tickets"]) == tickets
        return event_id, [ticket["ticket_id"] for ticket in page["tickets"]]

    async def held(self, event_id: str, tickets: list[str], buyer: str) -> str:
        """The id of a reservation of these tickets."""
        body = {"request_id": new_id(), "event_id": event_id, "buyer_id": buyer, "ticket_ids": tickets, "wait": "25s"}
        made = found(await self.post("/v1/reservations", body, self.as_("buyer", buyer)))["reservation"]
        assert made["state"] == "STATE_HELD", made
        return str(made["reservation_id"])

    @asynccontextmanager
    async def watching(self, path: str, headers: Mapping[str, str] | None = None) -> AsyncIterator["Stream"]:
        """An open stream; fails unless it begins well."""
        timeout = httpx.Timeout(STREAM_TIMEOUT_S)
        async with self.client.stream("GET", path, headers=headers, timeout=timeout) as response:
            assert response.status_code == 200, await response.aread()
            yield Stream(response)


class Stream:
    """Lines of JSON, or events as a browser takes them."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()
        self._events = response.headers["content-type"] == "text/event-stream"

    async def next(self) -> tuple[str, dict[str, Any]]:
        """The next message and its kind: message, or end. Raises StopAsyncIteration."""
        if not self._events:
            told = json.loads(await anext(self._lines))
            return ("end", told["error"]) if "error" in told else ("message", told["result"])
        kind = "message"
        while True:
            line = await anext(self._lines)
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return kind, json.loads(line.removeprefix("data: "))

    async def message(self) -> dict[str, Any]:
        kind, told = await self.next()
        assert kind == "message", told
        return told

    async def end(self) -> dict[str, Any]:
        """What it ends with, after whatever it tells before."""
        while True:
            kind, told = await self.next()
            if kind == "end":
                return told

    async def seats(self) -> dict[str, dict[str, Any]]:
        """The whole map, by ticket."""
        seats: dict[str, dict[str, Any]] = {}
        while True:
            told = await self.message()
            seats |= {ticket["ticket_id"]: ticket for ticket in told["tickets"]}
            if told["snapshot_complete"]:
                return seats

    async def becomes(self, ticket_id: str, state: str) -> None:
        """Returns when it tells so of a ticket."""
        while True:
            for ticket in (await self.message())["tickets"]:
                if (ticket["ticket_id"], ticket["state"]) == (ticket_id, state):
                    return


def new_id() -> str:
    return str(uuid4())


def found(response: httpx.Response) -> dict[str, Any]:
    """What it tells; it must be that all is well."""
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


@dataclass(frozen=True)
class Refused:
    """How a request was refused. `fields` are those that BadRequest names."""

    status: int
    code: int
    reason: str
    fields: frozenset[str] = frozenset()


def refused(response: httpx.Response) -> Refused:
    """What every refusal is: JSON of a google.rpc.Status with one ErrorInfo of ours."""
    assert response.headers["content-type"] == "application/json", response.text
    return Refused(response.status_code, *told(response.json()))


def told(status: dict[str, Any]) -> tuple[int, str, frozenset[str]]:
    """Code, reason and wrong fields of a google.rpc.Status."""
    assert status.keys() == {"code", "message", "details"}
    assert status["message"]
    [info] = [detail for detail in status["details"] if detail["@type"] == INFO]
    assert info["domain"] == "ticketrush"
    wrong = (detail["field_violations"] for detail in status["details"] if detail["@type"] == FIELDS)
    return status["code"], info["reason"], frozenset(one["field"] for fields in wrong for one in fields)
