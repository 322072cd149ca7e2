"""What the README tells people to type with curl is typed here."""

import asyncio
import re
import shutil
from asyncio.subprocess import PIPE, STDOUT

import pytest

from tests.e2e.house import House
from tests.e2e.test_e2e_docs import ROOT, TYPED_WITHIN_S, at, walk_through


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl to type it with")
async def test_the_walk_through_by_http_buys_once_however_often_it_is_pasted(house: House) -> None:
    script = at(walk_through("By HTTP, with curl"), house)
    bought = set()
    for _ in range(2):
        shell = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=ROOT, stdout=PIPE, stderr=STDOUT)
        async with asyncio.timeout(TYPED_WITHIN_S):
            printed = (await shell.communicate())[0].decode().replace(" ", "")
        assert shell.returncode == 0, printed
        assert printed.count('"state":"STATE_CONFIRMED"') == 1, printed
        bought.update(re.findall(r'"reservation_id":"([^"]+)"', printed))
    assert len(bought) == 1, "the second time is the first again"
