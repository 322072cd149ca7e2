"""What the provider's own process keeps across kill -9, and how it stops."""

import asyncio

import grpc
import pytest

from tests.provider.running import ProviderProcess, Stub, eventually, order
from ticketrush.provider.v1 import provider_pb2 as pb


async def charges(provider: Stub) -> list[pb.Charge]:
    return list((await provider.ListCharges(pb.ListChargesRequest(page_size=1_000))).charges)


async def test_killed_between_charge_and_reply_it_still_answers_that_charge(process: ProviderProcess) -> None:
    provider = await process.start()
    request = order("pm_card_lost_reply")
    unanswered = asyncio.ensure_future(provider.Charge(request, timeout=30))

    async def charged() -> bool:
        return len(await charges(provider)) == 1

    await eventually(charged)
    [before] = await charges(provider)
    await process.kill()
    with pytest.raises(grpc.aio.AioRpcError):
        await unanswered
    provider = await process.start()
    assert (await provider.Charge(request)).charge == before
    assert await charges(provider) == [before]


async def test_killed_in_the_middle_of_a_rush_it_keeps_what_it_answered_and_doubles_nothing(
    process: ProviderProcess,
) -> None:
    provider = await process.start()
    orders = [order() for _ in range(400)]
    answered: dict[str, pb.Charge] = {}
    some_answered = asyncio.Event()

    async def charge(stub: Stub, request: pb.ChargeRequest) -> None:
        charge = (await stub.Charge(request)).charge
        answered.setdefault(request.payment_id, charge)
        assert answered[request.payment_id] == charge
        if len(answered) >= 100:
            some_answered.set()

    rush = asyncio.gather(*(charge(provider, request) for request in orders), return_exceptions=True)
    await some_answered.wait()
    await process.kill()
    await rush
    provider = await process.start()
    await asyncio.gather(*(charge(provider, request) for request in orders))
    assert {charge.payment_id: charge for charge in await charges(provider)} == answered
    assert len(answered) == len(orders)


async def test_a_flaky_card_does_not_start_over_after_a_restart(process: ProviderProcess) -> None:
    request = order("pm_card_flaky")
    for _ in range(2):
        provider = await process.start()
        with pytest.raises(grpc.aio.AioRpcError):
            await provider.Charge(request)
        await process.kill()
    provider = await process.start()
    assert (await provider.Charge(request)).charge.state == pb.Charge.STATE_APPROVED


async def test_a_tombstone_outlives_the_process(process: ProviderProcess) -> None:
    provider = await process.start()
    request = order()
    await provider.CancelCharge(pb.CancelChargeRequest(payment_id=request.payment_id))
    await process.kill()
    provider = await process.start()
    assert (await provider.Charge(request)).charge.state == pb.Charge.STATE_CANCELLED


async def test_sigterm_ends_it_cleanly_with_a_charge_asleep(process: ProviderProcess) -> None:
    provider = await process.start()
    sleeping = asyncio.ensure_future(provider.Charge(order("pm_card_slow")))
    await provider.Charge(order())
    assert await process.terminate() == 0
    with pytest.raises(grpc.aio.AioRpcError):
        await sleeping
