"""Every call of the OpenAPI document is tried with all that it allows: the answers are what the document says.

No answer is an error of ours, and each has the shape that the document gives it.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.e2e.house import House
from tests.frontend.visitors import Visitors

EXAMPLES: Final = 40
TIMEOUT_S: Final = 30
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
EVENT_TO_CHANGE: Final = "event_event_id"
ROOT_DOCUMENT: Final = "/openapi.json"
OPERATIONS: Final = 19
READS: Final = (
    "GetEvent",
    "GetPayment",
    "GetReservation",
    "ListEvents",
    "ListPayments",
    "ListReservations",
    "ListTickets",
)


@pytest.fixture(scope="module")
async def known(visitors: Visitors) -> dict[str, list[str]]:
    """Ids of things that are there, by the name of the parameter that may be one."""
    event_id, tickets = await visitors.put_on_sale(20)
    reservation = await visitors.held(event_id, tickets[:1], "ada")
    body = {"request_id": str(uuid4()), "buyer_id": "ada", "amount_minor": "1", "payment_method": "pm_card_ok"}
    paid = await visitors.post(f"/v1/reservations/{reservation}:pay", body, visitors.as_("buyer", "ada"))
    return {
        "event_id": [event_id],
        EVENT_TO_CHANGE: [event_id],
        "reservation_id": [reservation],
        "payment_id": [paid.json()["payment"]["payment_id"]],
        "buyer_id": ["ada"],
        "request_id": [str(uuid4())],
        "ticket_ids": tickets,
    }


async def test_every_call_answers_as_the_document_says(house: House, known: dict[str, list[str]]) -> None:
    url = f"http://{house.stack.address('frontend')}"
    token = {"authorization": f"Bearer {house.stack.operator_token}"}
    await asyncio.to_thread(walk, url, token, known)
    for call in READS:
        answered = await house.figure("frontend", "ticketrush_frontend_requests_total", grpc_method=call, code="200")
        assert answered > 0, f"{call} was never tried with anything that is right"
    await house.balances()


def walk(url: str, token: dict[str, str], known: dict[str, list[str]]) -> None:
    text = httpx.get(url + ROOT_DOCUMENT).text
    # Schemathesis fills paths with str.format, to which a dot in a parameter's name says something else.
    document = schemathesis.openapi.from_dict(json.loads(text.replace("event.event_id", EVENT_TO_CHANGE)))
    document.config.update(base_url=url)
    operations: list[Any] = [found for found in document.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == OPERATIONS
    for operation in operations:
        try_out(operation.ok(), token, known)


def try_out(operation: Any, token: dict[str, str], known: dict[str, list[str]]) -> None:
    # A stream that is as it should be does not end: those have their own tests.
    is_watch = operation.path.endswith(":watch")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), data=st.data())
    def answers(case: Any, data: st.DataObject) -> None:
        if not is_watch:
            for part in (case.path_parameters, case.query, case.body):
                put_known(part, known, data)
        case.call_and_validate(headers=token, timeout=TIMEOUT_S, checks=CHECKS)

    answers()


def put_known(part: Any, known: dict[str, list[str]], data: st.DataObject) -> None:
    """Puts what is there in place of nonsense, as often as not: nonsense is refused before it gets far."""
    if not isinstance(part, dict):
        return
    for name, value in part.items():
        if name in known and data.draw(st.booleans()):
            chosen: str | Sequence[str] = data.draw(st.sampled_from(known[name]))
            part[name] = [chosen] if isinstance(value, list) else chosen
