"""The services as `make up` starts them take calls only from whom the table allows, by the callers' certificates."""

import asyncio

import grpc

from chassis.channels import dial
from chassis.tls import Tls
from contract.access import PEERS_BY_METHOD
from deploy.services import certificate_files
from tests.e2e.house import House

SERVED = {
    "reservations": "/ticketrush.v1.TicketingService/GetReservation",
    "payments": "/ticketrush.payments.v1.PaymentsService/ReconcilePayments",
    "provider": "/ticketrush.provider.v1.PaymentProviderService/Charge",
}
PEERS = ("gateway", "reservations", "payments", "scheduler", "provider", "operator")


async def test_only_the_peers_of_the_table_are_let_in(house: House) -> None:
    async def is_let_in(peer: str, service: str) -> bool:
        tls = Tls(*certificate_files(house.stack.run_dir / "tls", peer))
        async with dial(house.stack.address(service), ("grpc.enable_http_proxy", 0), tls=tls, peer=service) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SERVED[service])
            answered = call(b"", timeout=10)
            # Whoever is let in is answered, or told what is wrong with an empty request.
            code = await answered.code()
            assert code in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK}
            return code is not grpc.StatusCode.PERMISSION_DENIED

    asked = [(peer, service) for service in SERVED for peer in PEERS]
    let_in = await asyncio.gather(*(is_let_in(*pair) for pair in asked))
    expected = [peer in PEERS_BY_METHOD[SERVED[service]] for peer, service in asked]
    assert dict(zip(asked, let_in, strict=True)) == dict(zip(asked, expected, strict=True))


async def test_a_caller_without_a_certificate_does_not_get_as_far_as_being_refused(house: House) -> None:
    async with dial(house.stack.address("reservations"), ("grpc.enable_http_proxy", 0)) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SERVED["reservations"])
        assert await call(b"", timeout=5).code() is grpc.StatusCode.UNAVAILABLE
