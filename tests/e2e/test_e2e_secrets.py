"""No log tells a password or a card's token, not even at DEBUG and not when things go wrong."""

import asyncio
import sys
from asyncio.subprocess import STDOUT
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from deploy import environment
from deploy.services import SERVICES as ALL
from deploy.services import SETTING_PREFIX, settings
from deploy.stack import Stack
from tests.conftest import database_like
from tests.e2e.house import SERVICES, House, beside, furnished
from tests.e2e.office import eventually
from tests.gateway.vhosts import vhost

TOKENS = ("pm_card_ok", "pm_card_declined", "pm_card_lost_reply", "pm_card_that_nobody_knows")
LOG_WITHIN_S = 30
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
async def talkative(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Every process at DEBUG."""
    with database_like(stack.env["DATABASE_URL"], template) as database_url, vhost(stack, "talkative") as amqp_url:
        loud = {service.name: {"LOG_LEVEL": "DEBUG"} for service in ALL}
        run_dir = tmp_path_factory.mktemp("talkative")
        own = beside(stack, run_dir, database_url=database_url, amqp_url=amqp_url, settings=loud)
        async with furnished(own, SERVICES) as house:
            yield house


def secrets_of(house: House) -> set[str]:
    return {value for value in environment.read(house.stack.run_dir / "secrets.env").values() if value}


async def test_no_log_of_a_service_holds_a_password_or_a_cards_token(talkative: House) -> None:
    office = talkative.office
    sale = await office.put_on_sale(len(TOKENS) + 1)
    for buyer, token in enumerate(TOKENS):
        held = await office.held(sale, f"buyer-{buyer}", sale.tickets[buyer : buyer + 1])
        await office.pay(held, card=token)
    with pytest.raises(grpc.aio.AioRpcError):
        await office.pay(held, card="4111 1111 1111 1111")
    # And with connections that break under them.
    await talkative.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid()"
    )
    await talkative.kill("provider")
    late = await office.held(sale, "late", sale.tickets[-1:])
    await office.pay(late, card="pm_card_slow", wait_s=0)
    await talkative.up("provider")
    await talkative.settled()

    logs = {name: talkative.stack.log(name).read_text() for name in SERVICES}
    assert all('"DEBUG"' in logs[name] for name in ("gateway", "payments")), "at DEBUG there is more to look at"
    leaked = [
        (name, secret)
        for name, log in logs.items()
        for secret in {*secrets_of(talkative), *TOKENS, "pm_card_slow", "4111 1111 1111 1111"}
        if secret in log
    ]
    assert leaked == []


@pytest.mark.parametrize("name", ["reservations", "payments", "scheduler", "gateway"])
async def test_a_service_that_is_refused_by_its_servers_does_not_tell_what_it_said(
    talkative: House, tmp_path: Path, name: str
) -> None:
    """Wrong passwords are as secret: they may be right elsewhere."""
    wrong = "hush-hush-hush"
    service = next(service for service in ALL if service.name == name)
    variables = settings(service, talkative.stack.env)
    for setting in variables:
        for right in secrets_of(talkative):
            variables[setting] = variables[setting].replace(right, wrong)
    assert wrong in variables[f"{SETTING_PREFIX}AMQP_URL"]
    variables |= {SETTING_PREFIX + "LOG_LEVEL": "DEBUG"}
    variables |= {SETTING_PREFIX + where: "127.0.0.1:0" for where in ("LISTEN_ADDRESS", "METRICS_ADDRESS")}
    log = tmp_path / "log"

    async def complained() -> bool:
        return "no connection to the broker" in log.read_text()

    with log.open("w") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", name), env=variables, stdout=file, stderr=STDOUT, cwd=ROOT
        )
        try:
            await eventually(complained, log.read_text, deadline_s=LOG_WITHIN_S)
        finally:
            process.terminate()
            await process.wait()
    assert wrong not in log.read_text()
