"""What every process shows of itself: health, reflection in both versions, and its numbers."""

from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2 as reflection

from deploy.stack import Stack
from tests.e2e.house import SERVICES, House, within

OWN_SERVICES = {
    "gateway": {"ticketrush.v1.TicketingService", "ticketrush.v1.CatalogService"},
    "reservations": {
        "ticketrush.v1.TicketingService",
        "ticketrush.v1.CatalogService",
        "ticketrush.reservations.v1.ReservationsService",
    },
    "payments": {"ticketrush.v1.TicketingService", "ticketrush.payments.v1.PaymentsService"},
    "scheduler": set[str](),
    "provider": {"ticketrush.provider.v1.PaymentProviderService"},
}
ALL_HAVE = {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}


async def reflect(stack: Stack, name: str, version: str, request: reflection.ServerReflectionRequest) -> list[str]:
    """Names of the services, or of the files, that reflection of this version shows."""
    async with within(stack, name) as channel:
        # v1 has the messages of v1alpha under another name.
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection.ServerReflectionResponse.FromString,
        )(iter([request]))
        answer = await call.read()
        assert isinstance(answer, reflection.ServerReflectionResponse)
        assert answer.error_response.error_code == 0, answer
        files = answer.file_descriptor_response.file_descriptor_proto
        return [service.name for service in answer.list_services_response.service] or [str(file) for file in files]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize("name", SERVICES)
async def test_reflection_shows_what_is_served(house: House, name: str, version: str) -> None:
    listed = await reflect(house.stack, name, version, reflection.ServerReflectionRequest(list_services=""))
    assert set(listed) == OWN_SERVICES[name] | ALL_HAVE
    for service in OWN_SERVICES[name]:
        asked = reflection.ServerReflectionRequest(file_containing_symbol=service)
        assert await reflect(house.stack, name, version, asked)


@pytest.mark.parametrize("name", SERVICES)
async def test_health_is_serving_as_a_whole_and_by_service(house: House, name: str) -> None:
    async with within(house.stack, name) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs know no methods
        for service in ("", *OWN_SERVICES[name]):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_numbers_show_the_calls(house: House) -> None:
    handled = "grpc_server_handled_total"
    before = await house.figure("gateway", handled, grpc_method="Reserve", grpc_code="OK")
    sale = await house.office.put_on_sale(2)
    await house.office.buy(sale, "ada")
    await house.office.held(sale, "bob", sale.tickets[1:])
    assert await house.figure("gateway", handled, grpc_method="Reserve", grpc_code="OK") == before + 2
    assert await house.figure("reservations", handled, grpc_method="OpenPayments", grpc_code="OK") > 0
    assert await house.figure("payments", "ticketrush_payments_transitions_total", state="APPROVED") > 0
    assert await house.figure("provider", handled, grpc_method="Charge", grpc_code="OK") > 0
    for name in SERVICES:
        assert await house.figure(name, "process_resident_memory_bytes") > 0
