"""Takes the pictures of the page that the README shows, on a stack of its own: `python -m tests.page.screenshots`."""

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.async_api import expect

from deploy.services import NAMES
from deploy.stack import Stack
from tests.e2e.house import furnished
from tests.frontend.visitors import Visitors, found, new_id
from tests.page.chromium import chromium
from tests.page.people import PHONE, People, Person

IMAGES: Final = Path(__file__).parents[2] / "docs/images"
VIEWPORT: Final = {"width": 1180, "height": 760}
SECTIONS: Final = (("Platea", 6500, 9, 24), ("Anfiteatro", 3800, 5, 28))
BUYERS: Final = 60
# So that the pictures of today are like those of tomorrow.
CHANCE: Final = random.Random(7)  # noqa: S311 # nothing here is a secret


async def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    stack = Stack(Path(tempfile.mkdtemp(prefix="ticketrush-screenshots-")))
    async with furnished(stack, NAMES) as house, chromium() as browser:
        url = f"http://{house.stack.address('frontend')}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as client, People.at(browser, url) as people:
            visitors = Visitors(client, house.stack.issuer)
            await on_sale(visitors, "Gala de clausura", "Sala Apolo", "2026-12-30T21:00:00Z", (("Palco", 9000, 2, 8),))
            event_id = await on_sale(visitors, "Bodas de sangre", "Teatro Real", "2026-12-18T19:30:00Z", SECTIONS)
            olga = await people.person(viewport=VIEWPORT)
            await olga.sign_in("olga", "/#/organise")
            await olga.page.goto(f"/#/organise/{event_id}")
            await expect(olga.page.locator(".figures .sold dd")).to_have_text("0")
            await rush(visitors, event_id)
            await buying(people, event_id)
            await olga.page.get_by_role("button", name="Find").click()
            await expect(olga.page.locator("tbody tr").nth(5)).to_be_visible()
            await take(olga, "page-organiser")


async def buying(people: People, event_id: str) -> None:
    ada = await people.person(viewport=VIEWPORT)
    await ada.page.goto("/")
    await expect(ada.page.locator(".event")).to_have_count(2)
    await ada.sign_in("ada")
    await ada.look_at(event_id)
    for seat in (11, 12):
        await choose_near(ada, seat)
    await take(ada, "page-seats")
    await ada.hold()
    await ada.held()
    await ada.pay("pm_card_declined")
    await ada.sees("did not go through")
    await take(ada, "page-pay")
    await ada.pay()
    await ada.sees("They are yours")

    phone = {"viewport": PHONE, "has_touch": True}
    luz = await people.person(color_scheme="dark", locale="es-ES", **phone)
    await luz.page.goto(f"/#/event/{event_id}")
    await expect(luz.page.locator("svg.seats")).to_have_attribute("aria-busy", "false")
    await luz.page.get_by_role("button", name="Acercar").click()
    for _ in range(2):
        await luz.page.locator("rect.free").nth(20).click()
    await luz.page.evaluate("scrollTo(0, 0)")
    await take(luz, "page-phone")


async def choose_near(person: Person, number: int) -> None:
    """A free seat with this number."""
    cells = person.page.locator(f"rect.free[aria-label*='seat {number},']")
    await cells.nth(1).click()


async def on_sale(visitors: Visitors, name: str, venue: str, start: str, sections: Any) -> str:
    headers = visitors.as_("organiser", "olga")
    event = {"name": name, "venue": venue, "currency": "EUR", "start_time": start, "max_tickets_per_buyer": 8}
    made = found(await visitors.post("/v1/events", {"request_id": new_id(), "event": event}, headers))["event"]
    blocks = [
        {"section": section, "price_minor": price, "grid": {"rows": rows, "seats_per_row": seats}}
        for section, price, rows, seats in sections
    ]
    body = {"request_id": new_id(), "blocks": blocks}
    found(await visitors.post(f"/v1/events/{made['event_id']}/tickets", body, headers))
    return str(made["event_id"])


async def rush(visitors: Visitors, event_id: str) -> None:
    """Many buy a few seats each; some have not paid yet."""
    seats = found(await visitors.get(f"/v1/events/{event_id}/tickets", page_size="1000"))["tickets"]
    for number in range(BUYERS):
        buyer = f"fan-{number + 1}"
        headers = visitors.as_("buyer", buyer)
        begin = CHANCE.randrange(len(seats) - 4)
        ids = [seat["ticket_id"] for seat in seats[begin : begin + CHANCE.randint(1, 4)]]
        asked = {"request_id": new_id(), "event_id": event_id, "buyer_id": buyer, "ticket_ids": ids, "wait": "25s"}
        made = found(await visitors.post("/v1/reservations", asked, headers))["reservation"]
        if made["state"] == "STATE_HELD" and number % 4:
            paid = {"request_id": new_id(), "buyer_id": buyer, "payment_method": "pm_card_ok", "wait": "25s"}
            found(await visitors.post(f"/v1/reservations/{made['reservation_id']}:pay", paid, headers))


async def take(person: Person, name: str) -> None:
    await person.page.mouse.move(0, 0)
    await person.page.evaluate("document.activeElement?.blur()")
    path = IMAGES / f"{name}.png"
    await person.page.screenshot(path=path, animations="disabled")
    print(f"{path.relative_to(IMAGES.parents[1])}: {path.stat().st_size:,} bytes")  # noqa: T201 # a command


if __name__ == "__main__":
    asyncio.run(main())
