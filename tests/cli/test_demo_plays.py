"""The demo against the whole stack, undisturbed and with every service killed under it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from deploy.services import SERVICES
from deploy.stack import Stack

PLAY_TIMEOUT_S = 120
ENDED_WELL = "agree to the cent"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stage = Stack(tmp_path_factory.mktemp("stage") / ".run")
    try:
        stage.up()
        yield stage
    finally:
        stage.clean()


class Play:
    """A run of the demo, read line by line."""

    def __init__(self, stage: Stack) -> None:
        addresses = {name: stage.env[name] for name in ("GATEWAY_ADDRESS", "PROVIDER_ADDRESS", "TLS_DIR")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli.demo"],
            env={**os.environ, **addresses, "TICKETRUSH_TOKEN": stage.operator_token},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = ""

    def read_until(self, text: str) -> None:
        """Reads on until the text was printed."""
        assert self._process.stdout
        deadline = time.monotonic() + PLAY_TIMEOUT_S
        while text not in self.printed:
            line = self._process.stdout.readline()
            assert line, f"ended before it said {text!r}:\n{self.printed}"
            assert time.monotonic() < deadline, self.printed
            self.printed += line

    def ended(self) -> int:
        """Reads the rest; the exit code."""
        rest, _ = self._process.communicate(timeout=PLAY_TIMEOUT_S)
        self.printed += rest
        return self._process.returncode

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def play(stage: Stack) -> Iterator[Play]:
    play = Play(stage)
    yield play
    play.stop()


def test_every_scene_ends_as_promised_and_the_books_agree(stage: Stack, play: Play) -> None:
    assert play.ended() == 0, play.printed
    for promised in (
        "REJECTED (TICKETS_TAKEN)",
        "watch: CONFIRMED",
        "is EXPIRED",
        "REFUND_DUE",
        "declined",
        ENDED_WELL,
    ):
        assert promised in play.printed
    assert play.printed.index("'A short hold', another event, goes on sale") < play.printed.index("emil holds box 1/1")
    assert "hal buys lodge 1/1" in play.printed, "no two seats are called the same"
    assert f".venv/bin/grpcurl -plaintext {stage.env['GATEWAY_ADDRESS']} list" in play.printed


@pytest.mark.timeout(300)
def test_it_waits_for_every_service_that_is_killed_says_so_and_ends_well(stage: Stack, play: Play) -> None:
    play.read_until("emil holds")
    # The gateway first: the play is over soon, and only while it goes on does it miss anybody.
    for service in sorted(SERVICES, key=lambda service: service.name != "gateway"):
        stage.kill(service.name)
        if service.name == "gateway":
            play.read_until("gateway is not answering; `make status` shows what is dead")
        stage.up([service.name])
    assert play.ended() == 0, play.printed
    assert ENDED_WELL in play.printed
