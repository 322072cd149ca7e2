"""For everybody: no text becomes HTML, nothing comes from elsewhere, anybody can use it, in both languages."""

import re
from pathlib import Path
from typing import Final

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Error, Page, expect

from tests.frontend.visitors import Visitors, found, new_id
from tests.page.people import PHONE, People, Person

FIRST_LOAD_BYTES_MAX: Final = 200_000
HOSTILE: Final = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'`{{7*7}}</title>"
GRAVE: Final = ("serious", "critical")
RULES: Final = (
    "async () => { const {violations, passes} = await axe.run(document); return {violations, passes: passes.length}; }"
)
RULES_LEAST: Final = 15  # that find something to look at on any view
WORDS: Final = Path(__file__).parents[2] / "frontend/page/words.js"


async def on_sale(visitors: Visitors, name: str, section: str, price_minor: int = 4500) -> str:
    olga = visitors.as_("organiser", "olga")
    about = {"name": name, "venue": name[:190], "currency": "EUR", "start_time": "2030-12-31T20:00:00Z"}
    made = found(await visitors.post("/v1/events", {"request_id": new_id(), "event": about}, olga))
    event_id = str(made["event"]["event_id"])
    seats = [{"row": "<b>1", "seat": '"><i>1'}, {"row": "<b>1", "seat": "2"}]
    blocks = [
        {"section": section, "price_minor": price_minor, "seats": {"seats": seats}},
        {"section": f"{section[:50]} 2", "price_minor": price_minor, "grid": {"rows": 4, "seats_per_row": 6}},
        {"section": "Standing", "price_minor": 1200, "quantity": 20},
    ]
    found(await visitors.post(f"/v1/events/{event_id}/tickets", {"request_id": new_id(), "blocks": blocks}, olga))
    return event_id


@pytest.fixture(params=[{}, {"viewport": PHONE, "color_scheme": "dark"}], ids=["desk", "phone in the dark"])
async def buyer(people: People, request: pytest.FixtureRequest) -> Person:
    return await people.person(**request.param)


async def check(page: Page, view: str) -> None:
    """Fails on a serious fault of accessibility, and on a page that is wider than its window."""
    await page.evaluate(AXE_SCRIPT)
    found_by_axe = await page.evaluate(RULES)
    assert found_by_axe["passes"] >= RULES_LEAST
    faults = [one for one in found_by_axe["violations"] if one["impact"] in GRAVE]
    told = [
        f"{view}: {one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}" for one in faults
    ]
    assert not told, "\n".join(told)
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{view} is {wide} px too wide"


async def test_no_view_has_a_serious_fault(buyer: Person, visitors: Visitors) -> None:
    event_id = await on_sale(visitors, "As You Like It", "stalls")
    page = buyer.page
    await page.goto("/")
    await expect(page.locator(".event").first).to_be_visible()
    await check(page, "events")
    await page.goto("/#/orders")
    await expect(page.get_by_label("Name", exact=True)).to_be_visible()
    await check(page, "sign in")
    await buyer.sign_in(f"buyer-{event_id[:8]}")
    await buyer.look_at(event_id)
    await page.get_by_role("gridcell", name=re.compile("row 2, seat 3")).click()
    await check(page, "event")
    await buyer.hold()
    await buyer.held()
    await page.get_by_label("A part of it").check()
    await check(page, "hold")
    await page.get_by_role("button", name="Give the seats back").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await check(page, "dialog")
    await page.get_by_role("dialog").get_by_role("button", name="No, go back").click()
    await page.get_by_label("All of it").check()
    await buyer.pay("pm_card_declined")
    await buyer.sees("did not go through")
    await check(page, "declined")
    await buyer.pay()
    await buyer.sees("They are yours")
    await check(page, "bought")
    await page.goto("/#/orders")
    await expect(page.locator(".event").first).to_be_visible()
    await check(page, "orders")
    await buyer.sign_in("olga", "/#/organise")
    await expect(page.locator(".event").first).to_be_visible()
    await check(page, "office")
    await page.goto("/#/organise/new")
    await page.get_by_role("button", name="Add places without seats").click()
    await check(page, "new event")
    await page.goto(f"/#/organise/{event_id}")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.locator(".figures .sold dd")).to_have_text("1")
    await check(page, "sale")
    await page.get_by_role("button", name="Change").click()
    await check(page, "change")


async def test_text_stays_text_on_every_view(people: People, visitors: Visitors) -> None:
    section = HOSTILE[:60]
    event_id = await on_sale(visitors, HOSTILE, section)
    olga, ada = await people.person(), await people.person()
    dialogs: list[str] = []
    for person in (olga, ada):
        person.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await ada.page.goto("/")
    await expect(ada.page.locator(".event strong", has_text=HOSTILE)).to_be_visible()
    await ada.sign_in("ada")
    await ada.look_at(event_id)
    await expect(ada.page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    await ada.page.locator("rect").first.click()
    await expect(ada.page.locator(".readout")).to_contain_text('row <b>1, seat "><i>1')
    await ada.hold()
    await ada.held()
    await ada.pay()
    await ada.sees("They are yours")
    await expect(ada.page.locator(".stubs")).to_contain_text(section)
    await ada.page.goto("/#/orders")
    await expect(ada.page.locator(".event strong").first).to_have_text(HOSTILE)
    await olga.sign_in("olga", "/#/organise")
    await olga.page.goto(f"/#/organise/{event_id}")
    await expect(olga.page.locator("tbody tr")).to_contain_text(section)
    await expect(olga.page.locator(".bars")).to_contain_text(section)
    for person in (olga, ada):
        assert await person.page.locator("main img, main script, main b, main i:not([class])").count() == 0
    assert not dialogs


async def test_the_first_load_is_small_and_may_do_little(people: People, visitors: Visitors) -> None:
    pat = await people.person()
    answer = await pat.page.goto("/")
    assert answer is not None
    rule = answer.headers["content-security-policy"]
    assert "default-src 'none'" in rule
    assert "script-src 'self';" in rule
    assert "style-src 'self';" in rule
    assert "require-trusted-types-for 'script'" in rule
    assert "unsafe" not in rule
    assert answer.headers["x-content-type-options"] == "nosniff"
    await expect(pat.page.get_by_role("heading", level=1)).to_have_text("What is on")
    entries = "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
    sizes = await pat.page.evaluate(f"{entries}.map(one => one.transferSize)")
    whole = await pat.page.evaluate(f"{entries}.reduce((sum, one) => sum + one.decodedBodySize, 0)")
    print(f"\nfirst load: {sum(sizes)} bytes in {len(sizes)} answers, {whole} unpacked")  # noqa: T201 # for whoever measures
    assert whole < FIRST_LOAD_BYTES_MAX
    # Somebody who comes again is told that nothing has changed.
    page = await visitors.get("/page/app.js")
    again = await visitors.get("/page/app.js", {"if-none-match": page.headers["etag"]})
    assert (page.headers["content-type"], again.status_code, again.content) == (
        "text/javascript; charset=utf-8",
        304,
        b"",
    )
    # What would be HTML is refused by the browser itself.
    with pytest.raises(Error, match="TrustedHTML"):
        await pat.page.evaluate("document.body.innerHTML = '<p>'")
    people.complaints.clear()  # it says so on its console, too


async def test_it_speaks_the_readers_language_and_can_be_told_another(people: People, visitors: Visitors) -> None:
    event_id = await on_sale(visitors, "Bodas de sangre", "platea")
    rosa = await people.person(locale="es-ES")
    await rosa.page.goto("/")
    await expect(rosa.page.get_by_role("heading", level=1)).to_have_text("Próximos eventos")
    assert await rosa.page.evaluate("document.documentElement.lang") == "es"
    await rosa.look_at(event_id)
    await rosa.sees("45,00\xa0€")
    await rosa.page.get_by_label("Idioma").select_option("en")
    await expect(rosa.page.get_by_role("heading", name="Best seats together")).to_be_visible()
    await rosa.page.reload()
    await expect(rosa.page.get_by_role("heading", name="Best seats together")).to_be_visible()


def test_both_languages_say_the_same() -> None:
    english, spanish = re.findall(r"^const e[ns] = \{\n(.*?)^\};", WORDS.read_text(), re.DOTALL | re.MULTILINE)

    def entries(text: str) -> dict[str, list[str]]:
        lines = re.findall(r"^  '([\w.]+)': (.*),$", text, re.MULTILINE)
        return {key: sorted(set(re.findall(r"\{\w+\}", words))) for key, words in lines}

    assert entries(english) == entries(spanish)
    scripts = "".join(path.read_text() for path in WORDS.parent.glob("*.js") if path != WORDS)
    used = set(re.findall(r"\bt\('([\w.]+)'", scripts))
    assert used <= entries(english).keys()
