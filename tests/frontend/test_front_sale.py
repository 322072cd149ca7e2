"""A sale by HTTP and JSON alone: put on, bought, watched, taken back."""

import asyncio

import httpx

from tests.e2e.house import House
from tests.frontend.visitors import Refused, Visitors, bearer, found, new_id, refused


async def test_whoever_speaks_only_http_can_sell_and_buy(house: House, visitors: Visitors) -> None:
    olga, ada = visitors.as_("organiser", "olga"), visitors.as_("buyer", "ada")
    event_id, tickets = await visitors.put_on_sale(3)
    body = {"request_id": new_id(), "event_id": event_id, "buyer_id": "ada", "ticket_ids": tickets[:2], "wait": "25s"}
    held = found(await visitors.post("/v1/reservations", body, ada))["reservation"]
    assert (held["state"], held["total_minor"], held["currency"]) == ("STATE_HELD", "9000", "EUR")
    path = f"/v1/reservations/{held['reservation_id']}"

    by_card = {"buyer_id": "ada", "payment_method": "pm_card_ok", "wait": "25s"}
    part = by_card | {"request_id": new_id(), "amount_minor": "4000"}
    paid = found(await visitors.post(f"{path}:pay", part, ada))
    assert (paid["payment"]["state"], paid["reservation"]["state"]) == ("STATE_APPROVED", "STATE_PARTIALLY_PAID")
    rest = by_card | {"request_id": new_id()}
    assert found(await visitors.post(f"{path}:pay", rest, ada))["reservation"]["state"] == "STATE_CONFIRMED"

    payments = found(await visitors.get(f"{path}/payments", ada))["payments"]
    assert [payment["amount_minor"] for payment in payments] == ["4000", "5000"]
    one = found(await visitors.get(f"/v1/payments/{payments[0]['payment_id']}", ada))["payment"]
    assert one == payments[0]
    mine = found(await visitors.get("/v1/reservations", ada, buyer_id="ada", event_id=event_id))["reservations"]
    assert [one["reservation_id"] for one in mine] == [held["reservation_id"]]
    sold = found(await visitors.get(f"/v1/events/{event_id}/tickets", state="STATE_SOLD"))["tickets"]
    assert [ticket["ticket_id"] for ticket in sold] == tickets[:2]

    taken_back = await visitors.post(f"{path}:refund", {"request_id": new_id(), "reason": "a broken seat"}, olga)
    assert found(taken_back)["reservation"]["state"] == "STATE_CANCELLED"
    await house.balances()


async def test_an_organiser_has_the_whole_catalogue(visitors: Visitors) -> None:
    olga = visitors.as_("organiser", "olga")
    event_id, tickets = await visitors.put_on_sale(3)
    path = f"/v1/events/{event_id}"
    renamed = {"request_id": new_id(), "event": {"name": "Lear", "venue": "The Globe"}, "update_mask": "name,venue"}
    assert found(await visitors.post(f"{path}:update", renamed, olga))["event"]["name"] == "Lear"
    withdrawn = {"request_id": new_id(), "ticket_ids": tickets[:1]}
    assert found(await visitors.post(f"{path}/tickets:withdraw", withdrawn, olga))["event"]["available_count"] == "2"
    assert (
        found(await visitors.post(f"{path}:close", {"request_id": new_id()}, olga))["event"]["state"] == "STATE_CLOSED"
    )
    called_off = {"request_id": new_id(), "reason": "the lead is ill"}
    assert found(await visitors.post(f"{path}:cancel", called_off, olga))["event"]["state"] == "STATE_CANCELLED"
    # What is on sale, or was, everybody may see.
    assert found(await visitors.get(path))["event"]["venue"] == "The Globe"
    assert event_id in [event["event_id"] for event in found(await visitors.get("/v1/events"))["events"]]


async def test_a_hold_is_given_back(visitors: Visitors) -> None:
    event_id, tickets = await visitors.put_on_sale(1)
    reservation = await visitors.held(event_id, tickets, "ada")
    body = {"request_id": new_id(), "buyer_id": "ada", "wait": "25s"}
    cancelled = await visitors.post(f"/v1/reservations/{reservation}:cancel", body, visitors.as_("buyer", "ada"))
    assert found(cancelled)["reservation"]["state"] == "STATE_CANCELLED"


async def test_whoever_signs_in_buys_in_his_own_name_and_in_no_other(visitors: Visitors) -> None:
    event_id, tickets = await visitors.put_on_sale(2)
    signed_in = found(await visitors.post("/v1/session", {"name": "bea", "role": "BUYER"}))
    assert signed_in.keys() == {"token", "subject", "expire_time"}
    assert signed_in["subject"] == "bea"
    body = {"request_id": new_id(), "event_id": event_id, "buyer_id": "bea", "ticket_ids": tickets[:1], "wait": "25s"}
    held = await visitors.post("/v1/reservations", body, bearer(signed_in["token"]))
    assert found(held)["reservation"]["state"] == "STATE_HELD"
    for another in ({"buyer_id": "ada"}, {"buyer_id": "ada", "request_id": new_id()}):
        response = await visitors.post("/v1/reservations", body | another, bearer(signed_in["token"]))
        assert refused(response) == Refused(403, 7, "NOT_ALLOWED", frozenset({"buyer_id"}))
    organiser = found(await visitors.post("/v1/session", {"name": "olga", "role": "ORGANISER"}))
    closed = await visitors.post(f"/v1/events/{event_id}:close", {"request_id": new_id()}, bearer(organiser["token"]))
    assert found(closed)["event"]["state"] == "STATE_CLOSED"


async def test_nobody_signs_in_as_more_than_a_buyer_or_an_organiser_or_from_elsewhere(visitors: Visitors) -> None:
    for role in ("OPERATOR", "SERVICE", "DOOR", "buyer", ""):
        response = await visitors.post("/v1/session", {"name": "eve", "role": role})
        assert refused(response) == Refused(400, 3, "INVALID_ARGUMENT", frozenset({"role"}))
    for name in ("", "a b", "x" * 65, "é"):
        response = await visitors.post("/v1/session", {"name": name, "role": "BUYER"})
        assert refused(response) == Refused(400, 3, "INVALID_ARGUMENT", frozenset({"name"}))
    malformed: list[object] = [
        {"name": "eve", "role": "BUYER", "roles": ["operator"]},
        {"name": 7, "role": "BUYER"},
        [],
    ]
    for body in malformed:
        assert refused(await visitors.post("/v1/session", body)) == Refused(400, 3, "MALFORMED_REQUEST")
    # The name of a page from elsewhere may lead to this machine.
    response = await visitors.post("/v1/session", {"name": "eve", "role": "BUYER"}, {"host": "evil.example:8080"})
    assert refused(response) == Refused(403, 7, "NOT_ALLOWED")
    assert refused(await visitors.get("/v1/session")).status == 405


async def test_one_seat_is_sold_once_however_many_ask_by_http(house: House, visitors: Visitors) -> None:
    event_id, tickets = await visitors.put_on_sale(1)

    async def ask(number: int) -> httpx.Response:
        buyer = f"buyer-{number}"
        body = {"request_id": new_id(), "event_id": event_id, "buyer_id": buyer, "ticket_ids": tickets, "wait": "25s"}
        return await visitors.post("/v1/reservations", body, visitors.as_("buyer", buyer))

    answers = [found(answer)["reservation"] for answer in await asyncio.gather(*map(ask, range(20)))]
    assert sorted(answer["state"] for answer in answers) == ["STATE_HELD"] + ["STATE_REJECTED"] * 19
    assert {answer["reject_reason"] for answer in answers if answer["state"] == "STATE_REJECTED"} == {"TICKETS_TAKEN"}
    await house.balances()
