"""Debian's Chromium, driven by Playwright: installed by apt if it is missing, as the stack's servers are."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, async_playwright

from deploy.debian import install

PACKAGE: Final = "chromium"
# As it is called elsewhere; its brothers will do.
NAMES: Final = (PACKAGE, "chromium-browser", "google-chrome")
LAUNCH_TIMEOUT_MS: Final = 60_000


def executable() -> str:
    """The path of the browser. Raises StackError, which says what to install, where it cannot be had."""
    if found := _found():
        return found
    own = Path(tempfile.gettempdir()) / f"ticketrush-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    with (own / "chromium.lock").open("a") as lock:
        # Tests run in several processes: one of them installs, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _found():
            install([PACKAGE], own / "apt.log", print)
    return _found() or PACKAGE


def _found() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


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
