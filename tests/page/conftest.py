"""The page in a real browser, on the product at work."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.house import House
from tests.frontend import conftest as front
from tests.page.chromium import chromium
from tests.page.people import People

# Tests share two cores with whatever else runs; a person would have lost patience.
EXPECT_TIMEOUT_MS = 30_000

house, program, visitors = front.house, front.program, front.visitors


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=EXPECT_TIMEOUT_MS)
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def people(browser: Browser, house: House) -> AsyncIterator[People]:
    """Whoever comes with a browser; at the end none of their pages may have complained."""
    async with People.at(browser, f"http://{house.stack.address('frontend')}") as people:
        yield people
