"""How long a seat takes from a click to its colour on another screen: `make bench-page`, on a stack of its own."""

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Final

import httpx
from playwright.async_api import expect

from deploy.services import NAMES
from deploy.stack import Stack
from tests.e2e.house import furnished
from tests.frontend.visitors import Visitors
from tests.page.chromium import chromium
from tests.page.people import People, Person
from tests.page.test_page_buying import PRESS, on_sale

ROWS: Final = 20
SEATS_PER_ROW: Final = 50
BUYERS: Final = 4
CLICKS_EACH: Final = 10
"""As many holds as one buyer may have of an event."""
WARM_UP: Final = 4
# Two frames later what has changed is on the screen.
PAINTED_AT: Final = """label => new Promise(done => {
    const cell = [...document.querySelectorAll('rect')].find(one => one.getAttribute('aria-label').startsWith(label));
    const look = () => cell.getAttribute('class') === 'held' &&
        requestAnimationFrame(() => requestAnimationFrame(() => done(Date.now())));
    new MutationObserver(look).observe(cell, {attributes: true});
})"""


async def main() -> None:
    stack = Stack(Path(tempfile.mkdtemp(prefix="ticketrush-latency-")))
    async with furnished(stack, NAMES) as house, chromium() as browser:
        url = f"http://{house.stack.address('frontend')}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as client, People.at(browser, url) as people:
            event_id = await on_sale(Visitors(client, house.stack.issuer), rows=ROWS, seats=SEATS_PER_ROW)
            onlooker = await people.person()
            await onlooker.look_at(event_id)
            found: list[float] = []
            for number in range(BUYERS):
                buyer = await people.person()
                await buyer.sign_in(f"buyer-{number}")
                seats = range(1, CLICKS_EACH + 1)
                found += [await one_click(buyer, onlooker, event_id, number + 1, seat) for seat in seats]
    counted = found[WARM_UP:]
    print(  # noqa: T201 # a command
        f"{len(counted)} clicks, {ROWS * SEATS_PER_ROW:,} seats: median {statistics.median(counted):.0f} ms, "
        f"{min(counted):.0f} to {max(counted):.0f} ms"
    )


async def one_click(buyer: Person, onlooker: Person, event_id: str, row: int, seat: int) -> float:
    """Milliseconds from the click that holds a seat until the onlooker's screen shows it."""
    await buyer.look_at(event_id)
    await buyer.choose((row, seat))
    painted = asyncio.ensure_future(onlooker.page.evaluate(PAINTED_AT, f"stalls, row {row}, seat {seat},"))
    # The onlooker's observer is there once its page has answered something that was asked after it.
    await onlooker.page.evaluate("0")
    clicked = await buyer.page.evaluate(f"{PRESS} || Date.now()")
    latency_ms = float(await painted - clicked)
    await buyer.held()
    return latency_ms


if __name__ == "__main__":
    expect.set_options(timeout=30_000)
    asyncio.run(main())
