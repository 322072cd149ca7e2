"""Organisers in a browser: an event and its seats, the sale as it goes, orders and refunds."""

import asyncio
import csv
import io

import pytest
from playwright.async_api import Page, Route, expect

from tests.frontend.visitors import Visitors, found, new_id
from tests.page.people import People, Person


async def put_on_sale(person: Person, name: str) -> str:
    """By the form: two sections, one of them without seats. The event's id."""
    await person.page.goto("/#/organise/new")
    await person.page.get_by_label("Name", exact=True).fill(name)
    await person.page.get_by_label("Place", exact=True).fill("Globe")
    await person.page.get_by_label("Doors open").fill("2030-12-31T20:00")
    await person.page.get_by_label("Name of the section").fill("stalls")
    await person.page.get_by_label("Rows", exact=True).fill("4")
    await person.page.get_by_label("Seats in each row").fill("6")
    await person.page.get_by_role("button", name="Add places without seats").click()
    standing = person.page.get_by_role("group", name="Standing")
    await standing.get_by_label("Price of a ticket").fill("12,50")
    await standing.get_by_label("How many").fill("40")
    await person.sees("64 tickets, worth €1,580.00 together")
    await person.page.get_by_role("button", name="Put on sale").click()
    await expect(person.page.get_by_role("heading", level=1)).to_have_text(name)
    return person.page.url.rpartition("/")[2]


async def buys(visitors: Visitors, event_id: str, buyer: str, section: str, quantity: int) -> str:
    """Somebody pays for as many, without a browser: the reservation's id."""
    best = {"section": section, "quantity": quantity}
    body = {"request_id": new_id(), "event_id": event_id, "buyer_id": buyer, "best_available": best, "wait": "25s"}
    made = found(await visitors.post("/v1/reservations", body, visitors.as_("buyer", buyer)))["reservation"]
    paid = {"request_id": new_id(), "buyer_id": buyer, "payment_method": "pm_card_ok", "wait": "25s"}
    path = f"/v1/reservations/{made['reservation_id']}"
    bought = found(await visitors.post(f"{path}:pay", paid, visitors.as_("buyer", buyer)))["reservation"]
    assert bought["state"] == "STATE_CONFIRMED", bought
    return str(made["reservation_id"])


async def figure(person: Person, name: str, text: str) -> None:
    await expect(person.page.locator(f".figures .{name} dd")).to_have_text(text)


async def downloaded(page: Page, button: str) -> list[dict[str, str]]:
    async with page.expect_download() as begun:
        await page.get_by_role("button", name=button).click()
    path = await (await begun.value).path()
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


async def test_an_event_is_made_sold_changed_and_taken_back(people: People, visitors: Visitors) -> None:
    olga = await people.person()
    await olga.sign_in("olga", "/#/organise")
    event_id = await put_on_sale(olga, "Lear")
    await figure(olga, "free", "64")
    bought = await buys(visitors, event_id, "ada", "stalls", 2)
    await buys(visitors, event_id, "@cmd", "Standing", 1)
    await figure(olga, "sold", "3")
    await figure(olga, "revenue", "€102.50")
    await olga.sees("from 0 to 3 sold, of 64")

    await olga.page.get_by_role("button", name="Change").click()
    await olga.page.get_by_label("Name", exact=True).fill("King Lear")
    await olga.page.get_by_label("Tickets per person").fill("4")
    await olga.page.get_by_role("button", name="Save").click()
    await expect(olga.page.get_by_role("heading", level=1)).to_have_text("King Lear")
    event = found(await visitors.get(f"/v1/events/{event_id}"))["event"]
    assert (event["name"], event["max_tickets_per_buyer"], event["venue"]) == ("King Lear", 4, "Globe")

    await olga.page.get_by_role("button", name="More tickets").click()
    await olga.page.get_by_label("Name of the section").fill("balcony")
    await olga.page.get_by_role("button", name="Save").click()
    await figure(olga, "free", "261")

    await olga.page.get_by_label("Buyer, or number").fill(bought)
    await olga.page.get_by_role("button", name="Find").click()
    await expect(olga.page.locator("tbody tr")).to_have_count(1)
    await olga.page.get_by_role("button", name="Refund ada").click()
    await olga.page.get_by_role("dialog").get_by_label("Reason").fill("ill")
    await olga.page.get_by_role("dialog").get_by_role("button", name="Refund").click()
    await olga.sees("Refunded: ada")
    await figure(olga, "sold", "1")
    assert await refunded(visitors, bought)

    [sale] = await downloaded(olga.page, "Sales as CSV")
    assert (sale["buyer_id"], sale["total"], sale["currency"], sale["state"]) == ("'@cmd", "12.50", "EUR", "CONFIRMED")
    [refund] = await downloaded(olga.page, "Refunds as CSV")
    assert (refund["reservation_id"], refund["buyer_id"], refund["tickets"]) == (bought, "ada", "2")

    await olga.page.get_by_role("button", name="Stop selling").click()
    await olga.page.get_by_role("dialog").get_by_role("button", name="Stop selling").click()
    await expect(olga.page.locator(".badge.closed")).to_be_visible()
    await olga.page.get_by_role("button", name="Cancel the event").click()
    await olga.page.get_by_role("dialog").get_by_label("Reason").fill("storm")
    await olga.page.get_by_role("dialog").get_by_role("button", name="Cancel the event").click()
    await expect(olga.page.locator(".badge.cancelled").first).to_be_visible()
    await figure(olga, "sold", "0")


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("ada", "ada"),
        ("=1+1", "'=1+1"),
        ("-1", "'-1"),
        ("@a", "'@a"),
        ("\t=1", "'\t=1"),
        (' =HYPERLINK("x";"y")', '"\' =HYPERLINK(""x"";""y"")"'),
        ("a,b", '"a,b"'),
    ],
)
async def test_no_cell_is_a_formula(people: People, typed: str, written: str) -> None:
    otto = await people.person()
    await otto.page.goto("/")
    lines = await otto.page.evaluate("async cell => (await import('/page/organiser.js')).csv([[cell]])", typed)
    assert lines.split("\r\n")[1:] == [written, ""]


async def refunded(visitors: Visitors, reservation_id: str) -> bool:
    read = await visitors.get(f"/v1/reservations/{reservation_id}", visitors.as_("buyer", "ada"))
    return bool(found(read)["reservation"]["state"] == "STATE_CANCELLED")


async def test_a_new_event_that_a_reload_cuts_off_gets_its_seats_once(people: People) -> None:
    otto = await people.person()
    await otto.sign_in("otto", "/#/organise/new")
    await otto.page.get_by_label("Name", exact=True).fill("Cut off")
    reached = asyncio.Event()

    async def lose_the_answer(route: Route) -> None:
        if route.request.method == "POST":
            await route.fetch()
            reached.set()
        else:
            await route.continue_()

    await otto.page.route("**/v1/events", lose_the_answer)
    await otto.page.get_by_role("button", name="Put on sale").click()
    await reached.wait()
    await otto.page.unroute("**/v1/events")
    await otto.page.reload()
    await otto.page.goto("/#/organise")
    link = otto.page.get_by_role("link", name="Cut off")
    await expect(link).to_have_count(1)
    await link.click()
    await figure(otto, "free", "200")


async def test_what_belongs_to_another_organiser_cannot_be_managed(people: People, visitors: Visitors) -> None:
    event_id, _ = await visitors.put_on_sale(3)
    eve = await people.person()
    await eve.sign_in("eve", "/#/organise")
    await eve.page.goto(f"/#/organise/{event_id}")
    await eve.sees("This event is somebody else")
    await expect(eve.page.get_by_role("button", name="Cancel the event")).to_have_count(0)
