"""Who comes in by a certificate, who does not, and what happens when certificates are replaced."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from chassis import healthcheck, tls
from chassis.channels import dial
from chassis.run import listen
from chassis.server import Health as RealHealth
from chassis.server import build
from chassis.settings import PublicSettings, Settings
from chassis.tls import Tls, UnusableCertificateError, channel_credentials, peer_of
from tests.chassis.broker import until
from tests.chassis.certificates import Office

CALL_TIMEOUT_S: Final = 5.0
CHECK_TIMEOUT_S: Final = 20.0
METHOD: Final = "/test.Names/Peer"
OK: Final = grpc.StatusCode.OK
AGE: Final = timedelta(days=1)


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(tls, "LOOK_INTERVAL_S", 0.0)
    return Office(tmp_path)


@asynccontextmanager
async def serving(chosen: Settings, *options: tuple[str, int]) -> AsyncIterator[str]:
    """A service with these settings that tells each caller the caller's name; its address."""

    async def peer(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return (peer_of(context) or "").encode()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        handlers: dict[str, Any] = {"Peer": grpc.unary_unary_rpc_method_handler(peer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Names", handlers),))
        return ["test.Names"]

    health = RealHealth({})
    server, services = build(register, health, options=options)
    port = listen(server, chosen)
    await health.begin(services)
    await server.start()
    telling = asyncio.create_task(health.run())
    try:
        yield f"127.0.0.1:{port}"
    finally:
        telling.cancel()
        await server.stop(None)


def within(office: Office, name: str = "payments") -> Settings:
    office.tls(name)
    cert, key, ca = office.files(name)
    address = "127.0.0.1:0"
    return Settings(listen_address=address, metrics_address=address, tls_cert=cert, tls_key=key, tls_ca=ca)


async def name_told(channel: grpc.aio.Channel) -> str:
    """As whom the service knows the caller."""
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
    return (await method(b"", timeout=CALL_TIMEOUT_S)).decode()


async def is_refused(channel: grpc.aio.Channel) -> bool:
    async with channel:
        try:
            await name_told(channel)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


async def test_a_service_is_known_by_the_name_in_its_certificate(office: Office) -> None:
    async with serving(within(office)) as address:
        for name in ("gateway", "scheduler"):
            async with dial(address, tls=office.tls(name), peer="payments") as channel:
                assert await name_told(channel) == name


async def test_who_shows_no_certificate_is_refused(office: Office) -> None:
    async with serving(within(office)) as address:
        trusted = grpc.ssl_channel_credentials(office.authority.cert_pem.encode())
        named = [("grpc.ssl_target_name_override", "payments")]
        assert await is_refused(grpc.aio.secure_channel(address, trusted, options=named))
        assert await is_refused(dial(address))


async def test_a_certificate_of_another_ca_is_refused_even_under_a_known_name(office: Office, tmp_path: Path) -> None:
    stranger = Office(tmp_path / "stranger")
    stranger.issue("gateway")
    # It knows whom it calls; it is not known.
    stranger.files("gateway")[2].write_text(office.authority.cert_pem)
    async with serving(within(office)) as address:
        assert await is_refused(dial(address, tls=stranger.tls("gateway"), peer="payments"))


async def test_an_expired_certificate_is_refused(office: Office) -> None:
    office.issue("gateway", age=2 * AGE, lifetime=AGE)
    async with serving(within(office)) as address:
        assert await is_refused(dial(address, tls=office.tls("gateway"), peer="payments"))


async def test_a_service_that_shows_another_name_than_the_one_called_is_not_talked_to(office: Office) -> None:
    async with serving(within(office, "provider")) as address:
        assert await is_refused(dial(address, tls=office.tls("gateway"), peer="payments"))


async def test_a_server_of_another_ca_is_not_talked_to(office: Office, tmp_path: Path) -> None:
    stranger = Office(tmp_path / "stranger")
    async with serving(within(stranger)) as address:
        assert await is_refused(dial(address, tls=office.tls("gateway"), peer="payments"))


async def test_on_loopback_without_tls_nobody_has_a_name() -> None:
    chosen = Settings(listen_address="127.0.0.1:0", metrics_address="127.0.0.1:0")
    async with serving(chosen) as address, dial(address) as channel:
        assert await name_told(channel) == ""


async def test_the_public_port_shows_its_certificate_and_asks_for_none(office: Office) -> None:
    office.issue("tickets.example")
    cert, key, _ = office.files("tickets.example")
    address = "127.0.0.1:0"
    chosen = PublicSettings(listen_address=address, metrics_address=address, public_tls_cert=cert, public_tls_key=key)
    async with serving(chosen) as address:
        trusted = grpc.ssl_channel_credentials(office.authority.cert_pem.encode())
        for name, refused in (("tickets.example", False), ("other.example", True)):
            options = [("grpc.ssl_target_name_override", name)]
            assert await is_refused(grpc.aio.secure_channel(address, trusted, options=options)) is refused
        assert await is_refused(dial(address))


async def test_all_certificates_are_replaced_under_load_and_no_call_fails(office: Office) -> None:
    failed: list[str] = []
    served: list[str] = []
    over = asyncio.Event()

    async def keep_calling(channel: grpc.aio.Channel) -> None:
        while not over.is_set():
            try:
                served.append(await name_told(channel))
            except grpc.aio.AioRpcError as error:
                failed.append(repr(error))

    # Connections end all the time too, as they do within when they are old.
    old_ms = (("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 5_000))
    async with (
        serving(within(office), *old_ms) as address,
        dial(address, tls=office.tls("gateway"), peer="payments") as channel,
    ):
        callers = [asyncio.create_task(keep_calling(channel)) for _ in range(8)]
        for name in ("gateway", "payments") * 4:
            await asyncio.to_thread(office.issue, name)
            seen = len(served)
            await until(lambda seen=seen: len(served) > seen + 200)
        over.set()
        await asyncio.gather(*callers)
    assert (failed, set(served)) == ([], {"gateway"})


async def test_a_replaced_certificate_is_the_one_that_is_shown(office: Office) -> None:
    """Of a server and of a caller, both of which had one that others no longer accept."""
    async with (
        serving(within(office)) as address,
        dial(address, tls=office.tls("gateway"), peer="payments") as channel,
    ):
        assert await name_told(channel) == "gateway"
        office.authority = Office(office.folder).authority
        for name in ("payments", "gateway"):
            office.issue(name)
        assert await name_told(channel) == "gateway"


async def test_a_caller_shows_its_new_certificate_from_its_next_call_on(office: Office) -> None:
    async with (
        serving(within(office)) as address,
        dial(address, tls=office.tls("gateway"), peer="payments") as channel,
    ):
        assert await name_told(channel) == "gateway"
        office.tls("scheduler")
        for new, file in zip(office.files("scheduler"), office.files("gateway"), strict=True):
            os.replace(new, file)
        assert await name_told(channel) == "scheduler"


async def test_an_identity_whose_ca_is_no_longer_trusted_is_out(office: Office) -> None:
    old_ms = (("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 200))
    async with (
        serving(within(office), *old_ms) as address,
        dial(address, tls=office.tls("gateway"), peer="payments") as channel,
    ):
        assert await name_told(channel) == "gateway"
        office.authority = Office(office.folder).authority
        office.issue("payments")

        async def refused() -> bool:
            try:
                await name_told(channel)
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        # Connected before, it stays so until its connection is old.
        await until(refused)


async def test_a_certificate_that_runs_out_ends_with_its_connection(office: Office) -> None:
    old_ms = (("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 200))
    office.issue("gateway", age=AGE, lifetime=AGE + timedelta(seconds=2))
    async with (
        serving(within(office), *old_ms) as address,
        dial(address, tls=office.tls("gateway"), peer="payments") as channel,
    ):
        assert await name_told(channel) == "gateway"

        async def refused() -> bool:
            try:
                await name_told(channel)
            except grpc.aio.AioRpcError:
                return True
            return False

        await until(refused)


def test_files_that_do_not_fit_together_are_not_used(office: Office) -> None:
    identity = office.tls("gateway")
    before = identity.current()
    cert, key, _ = office.files("gateway")
    office.issue("other")
    other_cert, other_key, _ = office.files("other")
    os.replace(other_key, key)
    assert identity.current() == before
    os.replace(other_cert, cert)
    after = identity.current()
    assert after != before
    assert (after.cert, after.key) == (cert.read_bytes(), key.read_bytes())


def test_files_that_are_gone_are_missed_only_at_the_next_start(office: Office) -> None:
    identity = office.tls("gateway")
    before = identity.current()
    office.files("gateway")[1].unlink()
    assert identity.current() == before
    with pytest.raises(UnusableCertificateError, match=r"key\.pem cannot be read"):
        Tls(*office.files("gateway"))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_what_is_no_certificate_is_told_by_its_file(office: Office, index: int) -> None:
    office.tls("gateway")
    file = office.files("gateway")[index]
    file.write_text("nonsense")
    with pytest.raises(UnusableCertificateError, match=str(file)):
        Tls(*office.files("gateway"))


async def test_health_is_asked_with_a_certificate(office: Office) -> None:
    async with serving(within(office)) as address:
        credentials = channel_credentials(office.tls("operator").current())

        async def says(**how: Any) -> bool:
            return await asyncio.to_thread(healthcheck.is_serving, address, **how)

        await until(lambda: says(credentials=credentials, peer="payments"))
        assert not await says(credentials=credentials, peer="gateway")
        assert not await says()


def asked(address: str, *arguments: str, **variables: Path) -> int:
    """The exit code of the health check, as a container asks itself."""
    env = os.environ | {f"TICKETRUSH_{name}": str(value) for name, value in variables.items()}
    command = [sys.executable, "-m", "chassis.healthcheck", *arguments[:-1], address, arguments[-1]]
    return subprocess.run(command, env=env, timeout=CHECK_TIMEOUT_S, check=False).returncode


async def test_a_service_asks_itself_with_its_own_certificate(office: Office) -> None:
    async with serving(within(office)) as address:
        cert, key, ca = office.files("payments")

        async def says_so() -> bool:
            return await asyncio.to_thread(asked, address, "payments", TLS_CERT=cert, TLS_KEY=key, TLS_CA=ca) == 0

        await until(says_so)
        assert await asyncio.to_thread(asked, address, "payments") == 1


async def test_the_public_port_is_asked_by_the_certificate_that_it_shows(office: Office) -> None:
    office.issue("tickets.example")
    cert, key, _ = office.files("tickets.example")
    here = "127.0.0.1:0"
    chosen = PublicSettings(listen_address=here, metrics_address=here, public_tls_cert=cert, public_tls_key=key)
    async with serving(chosen) as address:

        async def says_so() -> bool:
            return await asyncio.to_thread(asked, address, "--public", "tickets.example", PUBLIC_TLS_CERT=cert) == 0

        await until(says_so)
        assert await asyncio.to_thread(asked, address, "--public", "other.example", PUBLIC_TLS_CERT=cert) == 1
