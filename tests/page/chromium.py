"""Debian's Chromium, driven by Playwright: installed by apt if it is missing, as the stack's servers are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from playwright.async_api import Browser, async_playwright

from deploy.debian import program

PACKAGE: Final = "chromium"
# As it is called elsewhere; its brothers will do.
NAMES: Final = (PACKAGE, "chromium-browser", "google-chrome")
LAUNCH_TIMEOUT_MS: Final = 60_000


def executable() -> str:
    """The path of the browser. Raises StackError, which says what to install, where it cannot be had."""
    return program(PACKAGE, *NAMES)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser; what is done in it is kept apart by contexts."""
    path = executable()
    # Its sandbox needs rights that containers, and root, do not have; it sees nothing but our own page.
    options = ["--no-sandbox", "--disable-dev-shm-usage"]
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=options, timeout=LAUNCH_TIMEOUT_MS)
        try:
            yield browser
        finally:
            await browser.close()
