"""How the front starts, stops and comes back; what it does not start with."""

import asyncio
import signal
import ssl
import subprocess
import time
from pathlib import Path

import grpc
import httpx
import pytest

from deploy import certificates
from deploy.services import certificate_files
from tests.deploy.test_stack import processes_of
from tests.e2e.house import House
from tests.e2e.office import eventually
from tests.frontend.alone import NOWHERE, alone, desk, environment
from tests.frontend.visitors import EVENTS, Refused, Stream, Visitors, found, new_id, refused, told
from ticketrush.v1 import ticketing_pb2 as pb

STOP_WITHIN_S = 10.0


def started(program: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """One that must end by itself."""
    variables = environment(NOWHERE, **settings)
    return subprocess.run([program], env=variables, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"LISTEN_ADDRESS": ""}, "TICKETRUSH_LISTEN_ADDRESS: is missing"),
        ({"LISTEN_ADDRESS": "nowhere"}, "must be HOST:PORT"),
        ({"METRICS_ADDRESS": "127.0.0.1:99999"}, "TICKETRUSH_METRICS_ADDRESS: must be HOST:PORT"),
        ({"LOG_LEVEL": "LOUD"}, "must be DEBUG, INFO, WARNING or ERROR"),
        ({"TRUSTED_PROXIES": "10.0.0.0/99"}, "TICKETRUSH_TRUSTED_PROXIES"),
        ({"CORS_ORIGINS": "*"}, "is no origin"),
        ({"ADDRESS_STREAMS": "-1"}, "whole number from 0"),
        ({"PUBLIC_PLAINTEXT": "perhaps"}, "must be yes or no"),
        ({"TOKEN_FILE": "/nowhere"}, "TICKETRUSH_TOKEN_FILE cannot be read"),
        ({"TOKEN_FILE": "/nowhere", "TOKEN": "x"}, "unset one"),
        ({"PUBLIC_TLS_CERT": "cert.pem"}, "both or none"),
        ({"PUBLIC_TLS_CERT": "/nowhere", "PUBLIC_TLS_KEY": "/nowhere"}, "TICKETRUSH_PUBLIC_TLS_CERT, _KEY"),
        ({"GATEWAY_TLS_CA": "/nowhere"}, "TICKETRUSH_GATEWAY_TLS_CA"),
        ({"GATEWAY_ADDRESS": "gateway:50051"}, "TICKETRUSH_GATEWAY_PLAINTEXT=yes"),
        ({"LISTEN_ADDRESS": "0.0.0.0:0"}, "can be reached from elsewhere, in plaintext"),
        ({"SIGN_IN_KEY": "/nowhere", "AUTH_ISSUER": "i", "AUTH_AUDIENCE": "a"}, "TICKETRUSH_SIGN_IN_KEY"),
        ({"SIGN_IN_KEY": "/nowhere"}, "TICKETRUSH_AUTH_ISSUER"),
        (
            {"SIGN_IN_KEY": "/nowhere", "AUTH_ISSUER": "i", "AUTH_AUDIENCE": "a", "LISTEN_ADDRESS": "0.0.0.0:0"}
            | {"PUBLIC_PLAINTEXT": "yes"},
            "gives tokens to whoever asks",
        ),
    ],
)
def test_what_it_cannot_start_with_is_named(program: str, settings: dict[str, str], complaint: str) -> None:
    ended = started(program, **settings)
    assert ended.returncode == 2
    assert ended.stderr.startswith("Cannot start, ")
    assert complaint in ended.stderr


def test_an_address_that_is_taken_is_named(program: str, house: House) -> None:
    ended = started(program, LISTEN_ADDRESS=house.stack.address("frontend"))
    assert ended.returncode == 2
    assert "TICKETRUSH_LISTEN_ADDRESS: cannot listen on" in ended.stderr


def test_its_help_names_every_setting(program: str) -> None:
    helped = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
    for setting in ("LISTEN_ADDRESS", "GATEWAY_ADDRESS", "CORS_ORIGINS", "SIGN_IN_KEY", "REQUEST_TIMEOUT_S"):
        assert f"TICKETRUSH_{setting}" in helped
    assert subprocess.run([program, "--halp"], capture_output=True, timeout=30, check=False).returncode == 2


async def test_nobody_signs_in_where_there_is_no_key(program: str) -> None:
    async with desk() as (_, address), alone(program, address) as front:
        response = await front.client.post("/v1/session", json={"name": "ada", "role": "BUYER"})
        assert refused(response) == Refused(404, 5, "UNKNOWN_PATH")


async def test_asked_to_stop_it_ends_streams_with_a_word_finishes_calls_and_takes_no_more(program: str) -> None:
    async with desk() as (played, address), alone(program, address) as front:
        await played.tell(pb.WatchTicketsResponse(snapshot_complete=True))
        path = f"/v1/events/{new_id()}/tickets:watch"
        async with front.client.stream("GET", path, headers=EVENTS) as response:
            stream = Stream(response)
            await stream.message()
            played.may_answer.clear()
            under_way = asyncio.create_task(front.client.post("/v1/reservations", json={"buyer_id": "ada"}))
            await eventually(lambda: _true(len(played.requests) == 2), lambda: "it was not called")
            front.process.send_signal(signal.SIGTERM)
            assert told(await stream.end())[:2] == (14, "FRONTEND_STOPPING")

        async def takes_no_more() -> bool:
            try:
                return (await front.client.get("/readyz")).status_code == 503
            except httpx.ConnectError:
                return True

        await eventually(takes_no_more, lambda: "it still takes calls")
        played.may_answer.set()
        assert found(await under_way)["reservation"]["buyer_id"] == "ada"
        assert await front.ended() == 0
    assert [line["message"] for line in front.log] == ["listening", "stopping", "stopped"]
    assert all(line.keys() >= {"time", "level", "logger", "message", "service"} for line in front.log)


async def test_a_call_that_goes_on_does_not_keep_it_from_stopping(program: str) -> None:
    async with desk() as (played, address), alone(program, address) as front:
        played.may_answer.clear()
        under_way = asyncio.create_task(front.client.post("/v1/reservations", json={}))
        await eventually(lambda: _true(len(played.requests) == 1), lambda: "it was not called")
        begin = time.monotonic()
        front.process.send_signal(signal.SIGTERM)
        assert refused(await under_way) == Refused(503, 14, "FRONTEND_STOPPING")
        assert await front.ended() == 0
        assert time.monotonic() - begin < STOP_WITHIN_S
        played.may_answer.set()


async def test_kill_9_and_up_bring_it_back_on_its_address(house: House, visitors: Visitors) -> None:
    address, pid = house.stack.address("frontend"), house.stack.pid("frontend")
    await house.kill("frontend")
    assert not await house.serves("frontend")
    await house.up("frontend")
    assert house.stack.address("frontend") == address
    assert house.stack.pid("frontend") not in {None, pid}
    assert found(await visitors.get("/v1/events")).keys() == {"events", "next_page_token"}


async def test_it_is_stopped_and_started_with_the_stack(house: House) -> None:
    pid = house.stack.pid("frontend")
    await asyncio.to_thread(house.stack.down, ["frontend"])
    assert pid not in processes_of(house.stack.run_dir)
    await house.up("frontend")
    assert await house.serves("frontend")


async def test_both_ends_may_be_tls_and_a_new_certificate_is_shown(program: str, tmp_path: Path) -> None:
    certificates.prepare(tmp_path, ["gateway", "front"])
    cert, key, ca = certificate_files(tmp_path, "front")
    gateway = certificate_files(tmp_path, "gateway")
    shown = grpc.ssl_server_credentials([(gateway[1].read_bytes(), gateway[0].read_bytes())])
    settings = {"PUBLIC_TLS_CERT": str(cert), "PUBLIC_TLS_KEY": str(key), "GATEWAY_TLS_CA": str(ca)}
    trusting = ssl.create_default_context(cafile=str(ca))
    async with (
        desk(credentials=shown) as (_, address),
        alone(program, address, scheme="https", verify=trusting, **settings) as front,
    ):
        assert found(await front.client.get("/v1/events")) == {"events": [], "next_page_token": ""}
        checked = await asyncio.create_subprocess_exec(
            program, "healthcheck", env=environment(address, **settings | {"LISTEN_ADDRESS": front.address})
        )
        assert await checked.wait() == 0
        before = _serial(front.address)
        cert.unlink()
        certificates.prepare(tmp_path, ["gateway", "front"])

        async def another_is_shown() -> bool:
            return await asyncio.to_thread(_serial, front.address) != before

        await eventually(another_is_shown, lambda: "it still shows the old one")
    # A gateway that is not the CA's is not talked to.
    certificates.prepare(tmp_path / "others", ["front"])
    stranger = {"GATEWAY_TLS_CA": str(certificate_files(tmp_path / "others", "front")[2])}
    async with desk(credentials=shown) as (played, address), alone(program, address, **stranger) as front:
        assert refused(await front.client.get("/v1/events")) == Refused(503, 14, "GATEWAY_UNAVAILABLE")
        assert played.requests == []


async def test_its_health_check_says_whether_calls_can_be_made(program: str) -> None:
    async def asked(address: str) -> int:
        variables = environment(NOWHERE, LISTEN_ADDRESS=address)
        return await (await asyncio.create_subprocess_exec(program, "healthcheck", env=variables)).wait()

    async with desk() as (_, address), alone(program, address) as front:
        assert await asked(front.address) == 0
    assert await asked(front.address) == 1
    async with alone(program) as front:
        assert await asked(front.address) == 1


async def _true(holds: bool) -> bool:
    return holds


def _serial(address: str) -> str:
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))
