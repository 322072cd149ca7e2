"""What the README tells people to type with curl is typed here."""

import asyncio
import shutil
from asyncio.subprocess import PIPE, STDOUT

import pytest

from tests.e2e.house import House
from tests.e2e.test_e2e_docs import ROOT, TYPED_WITHIN_S, at, walk_through


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl to type it with")
async def test_the_walk_through_by_http_does_what_it_says(house: House) -> None:
    script = at(walk_through("By hand, with grpcurl", "By HTTP, with curl"), house)
    shell = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=ROOT, stdout=PIPE, stderr=STDOUT)
    async with asyncio.timeout(TYPED_WITHIN_S):
        printed = (await shell.communicate())[0].decode()
    assert shell.returncode == 0, printed
    assert '"buyer_id":"eve","state":"STATE_HELD"' in printed.replace(" ", ""), printed
    assert printed.replace(" ", "").count('"row":"1"') >= 2
