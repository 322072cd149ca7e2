"""What the documents tell people to type is typed here, word for word but for the addresses."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from tests.e2e.house import House

ROOT = Path(__file__).parents[2]
TYPED_WITHIN_S = 60
HEARD_WITHIN_S = 30

pytestmark = pytest.mark.usefixtures("the_books_balance")


def walk_through(*headings: str) -> str:
    """Sections of the README, as one script."""
    text = (ROOT / "README.md").read_text()
    sections = [text.partition(f"## {heading}")[2].partition("\n## ")[0] for heading in headings]
    found = [block for section in sections for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)]
    assert len(found) >= len(headings)
    return "set -euo pipefail\n" + "\n".join(found)


def at(script: str, house: House) -> str:
    """The script, for this house."""
    assert "127.0.0.1:50051" in script
    script = script.replace("127.0.0.1:50051", house.stack.address("gateway"))
    return script.replace(".run/stack.env", str(house.stack.run_dir / "stack.env"))


async def test_the_walk_through_of_the_readme_does_what_it_says(house: House) -> None:
    script = at(walk_through("By hand, with grpcurl"), house)
    shell = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=ROOT, stdout=PIPE, stderr=STDOUT)
    async with asyncio.timeout(TYPED_WITHIN_S):
        printed = (await shell.communicate())[0].decode()
    assert shell.returncode == 0, printed
    assert "ticketrush.v1.TicketingService" in printed
    assert printed.count('"STATE_PARTIALLY_PAID"') == 1, printed
    assert printed.count('"STATE_CONFIRMED"') == 2, "once after the second payment, once read again"
    assert printed.count('"STATE_CANCELLED"') == 2, "once to whoever cancelled, once to whoever watched"


async def test_the_example_listener_hears_whose_hold_ran_out(house: House) -> None:
    listener = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "docs/examples/listen_expired.py"),
        env=os.environ | {"AMQP_URL": house.stack.env["AMQP_URL"]},
        stdout=PIPE,
        stderr=STDOUT,
    )
    assert listener.stdout is not None
    try:
        async with asyncio.timeout(HEARD_WITHIN_S):
            assert (await listener.stdout.readline()).decode().strip() == "listening"
            await house.office.held(await house.office.put_on_sale(hold_s=1), "forgetful")
            async for line in listener.stdout:
                if line.decode().rstrip().endswith(" forgetful lost stalls 1/1"):
                    break
            else:
                pytest.fail("the listener ended")
    finally:
        listener.terminate()
        await listener.wait()


async def test_the_example_buyer_buys(house: House) -> None:
    sale = await house.office.put_on_sale(2)
    addresses = {name: house.stack.env[name] for name in ("GATEWAY_ADDRESS", "OPERATOR_TOKEN")}
    command = (sys.executable, str(ROOT / "docs/examples/buy.py"), sale.event_id)
    for section, code, said in (("stalls", 0, "bought stalls 1/"), ("nowhere", 1, "no tickets: ")):
        buyer = await asyncio.create_subprocess_exec(
            *command, section, env=os.environ | addresses, stdout=PIPE, stderr=STDOUT
        )
        async with asyncio.timeout(TYPED_WITHIN_S):
            printed = (await buyer.communicate())[0].decode()
        assert (buyer.returncode, printed.startswith(said)) == (code, True), printed
