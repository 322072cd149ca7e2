"""People with a browser, and what they do with the page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect

DESKTOP: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 375, "height": 740}
# What the browser itself says of answers that are no success, and of a server that is gone.
_NETWORK: Final = "Failed to load resource"


@dataclass
class People:
    """Each `person` has a browser profile of their own. `complaints` is what pages said that they should not."""

    browser: Browser
    url: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def at(cls, browser: Browser, url: str) -> AsyncIterator["People"]:
        people = cls(browser, url)
        try:
            yield people
        finally:
            for context in people.contexts:
                await context.close()
        assert not people.complaints, people.complaints
        assert not people.foreign, people.foreign

    async def person(self, **options: Any) -> "Person":
        options = {"viewport": DESKTOP, "locale": "en-GB"} | options
        context = await self.browser.new_context(base_url=self.url, **options)
        self.contexts.append(context)
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", self._asked)
        return Person(await context.new_page())

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(_NETWORK):
            self.complaints.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.url, "blob:")):
            self.foreign.append(request.url)


@dataclass
class Person:
    page: Page

    async def sign_in(self, name: str, at: str = "/#/orders") -> None:
        await self.page.goto(at)
        await self.page.get_by_label("Name", exact=True).fill(name)
        await self.page.get_by_role("main").get_by_role("button", name="Sign in").click()
        await expect(self.page.locator(".who .name")).to_have_text(name)

    async def look_at(self, event_id: str) -> None:
        """Opens an event, and waits until its map is drawn."""
        await self.page.goto(f"/#/event/{event_id}")
        await expect(self.page.locator("svg.seats")).to_have_attribute("aria-busy", "false")

    def seat(self, row: int, seat: int) -> Locator:
        return self.page.get_by_role("gridcell", name=f"stalls, row {row}, seat {seat},")

    async def choose(self, *seats: tuple[int, int]) -> None:
        for row, seat in seats:
            await self.seat(row, seat).click()

    async def hold(self) -> None:
        """Presses the button."""
        await self.page.locator(".cart button.main").click()

    async def held(self) -> str:
        """Waits until the hold is shown: its id."""
        await self.page.wait_for_url("**/#/order/*")
        await expect(self.page.locator(".hold-time .time")).to_be_visible()
        return self.page.url.rpartition("/")[2]

    async def pay(self, card: str = "pm_card_ok", part: str = "") -> None:
        await self.page.get_by_label("Card").select_option(card)
        if part:
            await self.page.get_by_label("A part of it").check()
            await self.page.get_by_label("How much, in").fill(part)
        await self.page.locator(".paying button.main").click()

    async def sees(self, text: str) -> None:
        await expect(self.page.get_by_role("main")).to_contain_text(text)
