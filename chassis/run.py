"""The life of a process: start everything, serve until SIGTERM, stop in order within a bounded time."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

import grpc
import uvloop

from chassis import logs, metrics, tracing
from chassis.admission import Admission
from chassis.guard import Guard
from chassis.limits import Limits
from chassis.probes import Probes
from chassis.schema import UnfitSchema
from chassis.server import PUBLIC, WITHIN, Check, Health, build
from chassis.settings import PREFIX, PublicSettings, Settings, stop_misconfigured

log = logging.getLogger(__name__)

EXIT_CODE_UNFIT_SCHEMA = 3
CALLS_GRACE_S = 4.0
STEP_TIMEOUT_S = 4.0
STOP_TIMEOUT_S = 9.0
# What calls leave behind is freed without the collector; by default it would look for cycles every 700 objects.
COLLECT_EVERY = 20_000


@dataclass(frozen=True)
class Process:
    """A service as its composition root describes it.

    `open` is awaited in order before anything is served. `background` coroutines run until the end; one that fails ends
    the process. `guard` says who may call; with `admission`, calls that are too many are refused, and with `limits`
    those of whoever takes too much. On SIGTERM: health turns NOT_SERVING, `drain` is awaited in order (stop taking
    work, finish what is in hand), then the gRPC port closes, the background is cancelled, and `close` is awaited in
    order.
    """

    name: str
    settings: Settings
    register: Callable[[grpc.aio.Server], Sequence[str]]
    guard: Guard
    checks: Mapping[str, Check] = field(default_factory=dict)
    admission: Admission | None = None
    limits: Limits | None = None
    open: Sequence[Callable[[], Awaitable[None]]] = ()
    background: Sequence[Callable[[], Coroutine[None, None, None]]] = ()
    drain: Sequence[Callable[[], Awaitable[None]]] = ()
    close: Sequence[Callable[[], Awaitable[None]]] = ()


Chosen = TypeVar("Chosen", bound=Settings)


def run(name: str, compose: Callable[[Chosen], Process], chosen: Chosen) -> None:
    """Runs to its end the process that `compose` puts together in the event loop, where gRPC channels must be made.

    Raises whatever ended it other than SIGTERM or SIGINT; exits with code 3 on a schema that is not for this code.
    """
    logs.configure(name, chosen.log_level)
    if chosen.otlp_endpoint:
        is_public = isinstance(chosen, PublicSettings)
        tracing.begin(name, chosen.otlp_endpoint, chosen.trace_ratio, is_public=is_public)
    try:
        uvloop.run(_live(compose, chosen))
    except UnfitSchema as problem:
        sys.stderr.write(f"Cannot work, {problem}\n")
        sys.exit(EXIT_CODE_UNFIT_SCHEMA)


async def _live(compose: Callable[[Chosen], Process], chosen: Chosen) -> None:
    process = compose(chosen)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        for prepare in process.open:
            await prepare()
    except UnfitSchema:
        for step in process.close:
            await _step(step)
        raise
    health = Health(process.checks)
    options = PUBLIC if isinstance(process.settings, PublicSettings) else WITHIN
    server, services = build(
        process.register, health, process.admission, process.guard, process.limits, options=options
    )
    with _listening_on("LISTEN_ADDRESS", process.settings.listen_address):
        port = listen(server, process.settings)
    # Admission asks as callers do, but has no certificate by which to know this port.
    own_door = f"unix-abstract:ticketrush-{uuid4()}"
    if process.admission:
        server.add_insecure_port(own_door)
    with _listening_on("METRICS_ADDRESS", process.settings.metrics_address):
        metrics.serve(process.settings.metrics_address)
    probes = [_probes(health, address)] if (address := process.settings.health_address) else []
    await health.begin(services)
    background = (health.run, *(probe.run for probe in probes), *process.background)
    tasks = [asyncio.create_task(begin(), name=begin.__qualname__) for begin in background]
    # What is there by now stays.
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY)
    await server.start()
    if process.admission:
        tasks.append(asyncio.create_task(process.admission.run(own_door), name="admission"))
    log.info("listening", extra={"port": port, "metrics": process.settings.metrics_address})
    try:
        await _until_stopped(stop, tasks)
    finally:
        await _stop(process, health, server, tasks)


def listen(server: grpc.aio.Server, chosen: Settings) -> int:
    """Opens the port; returns its number."""
    if chosen.port_tls is None:
        return server.add_insecure_port(chosen.listen_address)
    return server.add_secure_port(chosen.listen_address, chosen.port_tls.server_credentials())


def _probes(health: Health, address: str) -> Probes:
    probes = Probes(health)
    with _listening_on("HEALTH_ADDRESS", address):
        probes.listen(address)
    return probes


@contextmanager
def _listening_on(setting: str, address: str) -> Iterator[None]:
    """Ends the process if the address is not to be had."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter is grpc's
        stop_misconfigured(f"{PREFIX}{setting}: cannot listen on {address}, is it in use? ({error})")


async def _until_stopped(stop: asyncio.Event, tasks: Sequence["asyncio.Task[None]"]) -> None:
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        task.result()
        raise RuntimeError(f"{task.get_name()} ended by itself")


async def _stop(
    process: Process, health: Health, server: grpc.aio.Server, tasks: Sequence["asyncio.Task[None]"]
) -> None:
    log.info("stopping")
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await health.stop()
            for step in process.drain:
                await _step(step)
            await server.stop(CALLS_GRACE_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for step in (*process.close, tracing.end):
                await _step(step)
    except TimeoutError:
        log.error("did not stop within %s s, leaving what is unfinished to the next start", STOP_TIMEOUT_S)
    log.info("stopped")


async def _step(step: Callable[[], Awaitable[None]]) -> None:
    try:
        async with asyncio.timeout(STEP_TIMEOUT_S):
            await step()
    except TimeoutError:
        log.error("%s took longer than %s s", step.__qualname__, STEP_TIMEOUT_S)
