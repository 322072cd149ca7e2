"""Services call each other over TLS under the names in their certificates, and only what the table says."""

import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chassis.callers import calling
from chassis.guard import ByPeer, ByToken, Guard
from chassis.server import Health, build
from contract import access
from tests.e2e.office import Refusal, refusal
from tests.security import forge
from tests.security.descriptors import full_name, ours, shared

PEERS = ("gateway", "reservations", "payments", "scheduler", "provider", "operator", "stranger")
GATEWAY = {"gateway"}
INTERNAL = {
    "/ticketrush.reservations.v1.ReservationsService/OpenPayments": {"payments"},
    "/ticketrush.payments.v1.PaymentsService/ReconcilePayments": {"scheduler"},
    "/ticketrush.provider.v1.PaymentProviderService/Charge": {"payments"},
    "/ticketrush.provider.v1.PaymentProviderService/CancelCharge": {"payments"},
    "/ticketrush.provider.v1.PaymentProviderService/Refund": {"payments", "operator"},
    "/ticketrush.provider.v1.PaymentProviderService/GetCharge": {"payments", "operator"},
    "/ticketrush.provider.v1.PaymentProviderService/ListCharges": {"operator"},
}
# What becomes a command, or is followed by facts, is the gateway's own: nobody serves it behind.
NOT_PASSED_ON = {"Reserve", "Pay", "CancelReservation", "WatchReservation", "WatchTickets"}
NOT_ALLOWED = Refusal(grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")
GET_RESERVATION = "/ticketrush.v1.TicketingService/GetReservation"


def may_call(method: Any) -> set[str]:
    if method.containing_service.file.package != "ticketrush.v1":
        return INTERNAL[full_name(method)]
    return set() if method.name in NOT_PASSED_ON else GATEWAY


@cache
def authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _certificate("authority", key, key, "authority", is_authority=True)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    issuer: str,
    *,
    is_authority: bool = False,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(by, hashes.SHA256())
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@cache
def identity(name: str) -> tuple[bytes, bytes]:
    """Private key and certificate of a peer."""
    key = ec.generate_private_key(ec.SECP256R1())
    by, _ = authority()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, pem(_certificate(name, key, by, "authority"))


async def who_asks(_: bytes, __: object) -> bytes:
    """What the service takes its caller to be."""
    caller = calling.get()
    return f"{caller.subject} {','.join(sorted(caller.roles))}".encode()


def register(server: grpc.aio.Server) -> list[str]:
    """Answers every RPC that there is, and one that has no row."""
    names = [full_name(method) for method in ours()]
    for name in (*names, "/ticketrush.v1.TicketingService/Forgotten"):
        _, service, method = name.split("/")
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(who_asks)
        server.add_registered_method_handlers(service, {method: handler})
    return []


async def asked(line: grpc.aio.Channel, name: str, *metadata: tuple[str, str]) -> str:
    """The answer of `who_asks`."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = line.unary_unary(name)
    return (await call(b"", metadata=metadata)).decode()


@asynccontextmanager
async def served(guard: Guard, *, tls: bool) -> AsyncIterator[Callable[[str], grpc.aio.Channel]]:
    """A port under this guard; gives the channel of a peer to it."""
    server, _ = build(register, Health({}), guard=guard)
    ca = pem(authority()[1])
    if tls:
        credentials = grpc.ssl_server_credentials([identity("reservations")], ca, require_client_auth=True)
        port = server.add_secure_port("localhost:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channels: dict[str, grpc.aio.Channel] = {}

    def line(peer: str) -> grpc.aio.Channel:
        if peer not in channels:
            key, certificate = identity(peer)
            channels[peer] = (
                grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca, key, certificate))
                if tls
                else grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            )
        return channels[peer]

    yield line
    for channel in channels.values():
        await channel.close()
    await server.stop(None)


@pytest.fixture(scope="module")
async def inside() -> AsyncIterator[Callable[[str], grpc.aio.Channel]]:
    async with served(ByPeer(access.PEERS_BY_METHOD, access.OPEN, has_names=True), tls=True) as line:
        yield line


def test_every_rpc_of_every_service_has_its_row_and_no_row_is_of_none() -> None:
    assert access.TABLE.keys() == {*map(full_name, ours()), *shared()}
    assert set(shared()) == access.OPEN


@pytest.mark.parametrize("method", list(ours()), ids=full_name)
async def test_a_peer_calls_what_it_may_and_nothing_else(
    inside: Callable[[str], grpc.aio.Channel], method: Any
) -> None:
    for peer in PEERS:
        call = asked(inside(peer), full_name(method))
        if peer in may_call(method):
            await call
        else:
            assert await refusal(call) == NOT_ALLOWED, peer


async def test_the_gateway_says_for_whom_it_asks_and_who_says_nothing_is_nobody(
    inside: Callable[[str], grpc.aio.Channel],
) -> None:
    subject, roles = ("ticketrush-subject", "ada"), ("ticketrush-roles", "buyer,door")
    assert await asked(inside("gateway"), GET_RESERVATION, subject, roles) == "ada buyer,door"
    assert await asked(inside("gateway"), GET_RESERVATION) == " "
    assert await asked(inside("gateway"), GET_RESERVATION, ("ticketrush-roles", "operator")) == " "


async def test_an_rpc_without_a_row_is_refused_inside_and_at_the_door(tmp_path: Any) -> None:
    forgotten = "/ticketrush.v1.TicketingService/Forgotten"
    (tmp_path / "jwks.json").write_text(forge.key_set("current"))
    verifier = forge.verifier(tmp_path / "jwks.json")
    await verifier.open()
    guards: list[Guard] = [
        ByPeer(access.PEERS_BY_METHOD, access.OPEN, has_names=False),
        ByToken(verifier, access.ROLES_BY_METHOD, access.OPEN),
        ByToken(None, access.ROLES_BY_METHOD, access.OPEN),
    ]
    metadata = (("authorization", f"Bearer {forge.signed(roles=['operator'])}"),)
    for guard in guards:
        async with served(guard, tls=False) as line:
            assert await refusal(asked(line("gateway"), forgotten, *metadata)) == NOT_ALLOWED
            assert await asked(line("gateway"), GET_RESERVATION, *metadata)


async def test_the_door_does_not_serve_what_is_internal(tmp_path: Any) -> None:
    (tmp_path / "jwks.json").write_text(forge.key_set("current"))
    verifier = forge.verifier(tmp_path / "jwks.json")
    await verifier.open()
    metadata = (("authorization", f"Bearer {forge.signed(roles=['operator'])}"),)
    async with served(ByToken(verifier, access.ROLES_BY_METHOD, access.OPEN), tls=False) as line:
        for name in INTERNAL:
            assert await refusal(asked(line("gateway"), name, *metadata)) == NOT_ALLOWED
