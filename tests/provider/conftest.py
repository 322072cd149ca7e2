"""A provider to test: its servicer on a real gRPC port in this process, or the whole process to kill."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from chassis.paging import PageTokens
from chassis.server import Health, build
from provider.group_commit import GroupCommit
from provider.servicer import Servicer
from provider.store import Store
from tests.provider.running import ProviderProcess, Stub
from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[ProviderProcess]:
    child = ProviderProcess(tmp_path / "provider.sqlite")
    yield child
    await child.kill()


@pytest.fixture
async def servicer(tmp_path: Path) -> AsyncIterator[Servicer]:
    group = GroupCommit(tmp_path / "provider.sqlite")
    store = Store(group)
    await store.open()
    servicer = Servicer(store, PageTokens())
    yield servicer
    await servicer.forget_delayed()
    await group.close()


@pytest.fixture
async def provider(servicer: Servicer) -> AsyncIterator[Stub]:
    server, _ = build(servicer.register, Health({}))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield PaymentProviderServiceStub(channel)
    await server.stop(None)
