"""What may happen to a system of several: any one process of it dies, and the others do its work."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import psycopg

from chaos.faults import KILL_GAP_S, Fault, Scene
from chaos.several import HaSystem
from chaos.system import RESTART_AFTER_S, TWINS
from deploy.errors import StackError
from deploy.ha import brokers
from deploy.ha.table import INSTANCES, SERVERS

FAILOVERS: Final = 2
BROKER_KILLS: Final = 3
# A queue that a rush fills, whatever the number of shards.
BUSY_QUEUE: Final = "reservations.commands.0"
FAILOVER_S: Final = "failover_s"
STANDBY_AGAIN_S: Final = "standby_again_s"
LEADER_AGAIN_S: Final = "leader_again_s"
KILLED: Final = "killed"
PARTED: Final = "parted"
# Longer than RabbitMQ's net tick, with its quarter, and what follows.
TAKEN_FOR_DEAD_S: Final = 90.0
_LOOK_INTERVAL_S: Final = 0.1
# Beyond this a turn has failed, and the harness says so.
_TURN_MAX_S: Final = 360.0


def failover(kill: Callable[[HaSystem, str], Awaitable[None]]) -> Fault:
    """The primary dies in some way, and stays dead until another confirms commits; again once it is the standby."""

    async def fault(scene: Scene) -> None:
        system = several(scene)
        for _ in range(FAILOVERS):
            await asyncio.sleep(scene.random.uniform(*KILL_GAP_S))
            primary = (await system.parts_of("postgres"))[0]
            with system.hands_off(primary):
                begin = time.monotonic()
                await kill(system, primary)
                await _until(lambda: _commits(system))
                _note(scene, FAILOVER_S, begin)
            await _until(lambda: _are_pair(system))
            _note(scene, STANDBY_AGAIN_S, begin)

    return fault


async def with_its_machine(system: HaSystem, primary: str) -> None:
    """kill -9 of PostgreSQL and its Patroni."""
    await system.kill(primary)


async def without_patroni(system: HaSystem, primary: str) -> None:
    """kill -9 of PostgreSQL alone: its Patroni sees it, and hands over."""
    await system.kill_postgres(primary)


async def only_patroni(system: HaSystem, primary: str) -> None:
    """kill -9 of Patroni alone: a PostgreSQL that takes itself for the primary lives on. Until it is none any more."""
    await system.kill_patroni(primary)
    await _until(lambda: _is_replaced(system, primary))


async def kill_broker_leader(scene: Scene) -> None:
    """kill -9 of the broker that leads the busiest queue, whichever that is by then."""
    system = several(scene)
    for _ in range(BROKER_KILLS):
        await asyncio.sleep(scene.random.uniform(*KILL_GAP_S))
        leader = await _leader(system)
        with system.hands_off(leader):
            begin = time.monotonic()
            await system.kill(leader)
            await _until(lambda dead=leader: _is_led_by_another(system, dead))  # type: ignore[misc] # bound now
            _note(scene, LEADER_AGAIN_S, begin)
        await system.up(leader)


async def broker_parted(scene: Scene) -> None:
    """SIGSTOP of the broker that leads the busiest queue until the others take it for dead, which it may not notice.

    Thawed, it is started again if it goes on apart from them, as an operator would.
    """
    system = several(scene)
    await asyncio.sleep(scene.random.uniform(*KILL_GAP_S))
    leader = await _leader(system)
    with system.hands_off(leader):
        system.signal(leader, signal.SIGSTOP)
        try:
            await asyncio.sleep(TAKEN_FOR_DEAD_S)
        finally:
            system.signal(leader, signal.SIGCONT)
        await asyncio.sleep(brokers.TOLD_WITHIN_S)
        scene.figures[PARTED] = float(await system.apart() != "")
        await _until(partial(_is_united, system, leader))


def killed_one_by_one(parts: Sequence[str]) -> Fault:
    """kill -9 of each part once, in an order that the seed draws, and started again as an orchestrator would."""

    async def fault(scene: Scene) -> None:
        system = several(scene)
        for part in scene.random.sample(parts, len(parts)):
            with system.hands_off(part):
                await system.kill(part)
                await asyncio.sleep(RESTART_AFTER_S)
                await _until(partial(_is_started, system, part))
            scene.figures[KILLED] = scene.figures.get(KILLED, 0) + 1
            await asyncio.sleep(scene.random.uniform(*KILL_GAP_S))

    return fault


async def rolling_restart(scene: Scene) -> None:
    """Each process of each service is restarted in turn by SIGTERM."""
    system = several(scene)
    for name in TWINS:
        parts = await system.parts_of(name)
        with system.hands_off(*parts):
            for part in parts:
                await system.terminate(part)
                await system.up(part)


def several(scene: Scene) -> HaSystem:
    """The system of a scene that only one of several can be."""
    if not isinstance(scene.system, HaSystem):
        raise TypeError(f"{scene.cell} needs several of everything")
    return scene.system


SERVERS_ONE_BY_ONE: Final = SERVERS
SERVICES_ONE_BY_ONE: Final = tuple(instance.name for instance in INSTANCES)


async def _is_started(system: HaSystem, part: str) -> bool:
    """One try of an orchestrator to start a part; it goes on trying, as every one does."""
    try:
        await system.up(part)
    except (StackError, psycopg.Error):
        return False
    return True


async def _is_united(system: HaSystem, broker: str) -> bool:
    return await _is_started(system, broker) and await system.apart() == ""


async def _commits(system: HaSystem) -> bool:
    """Whether a transaction that has something to commit is confirmed."""
    try:
        async with system.database() as conn:
            await conn.execute("SELECT pg_current_xact_id()")
    except psycopg.Error:
        return False
    return True


async def _is_replaced(system: HaSystem, primary: str) -> bool:
    return (await system.parts_of("postgres"))[0] != primary


async def _are_pair(system: HaSystem) -> bool:
    return sorted((await system.roles()).values()) == ["leader", "sync_standby"]


async def _leader(system: HaSystem) -> str:
    """The broker that leads the busy queue; "" while nobody does, or nobody can tell."""
    try:
        queues = await system.queues()
    except OSError:
        return ""
    led = {str(queue["name"]): str(queue.get("leader") or "") for queue in queues}
    return led.get(BUSY_QUEUE, "").partition("@")[0]


async def _is_led_by_another(system: HaSystem, dead: str) -> bool:
    return await _leader(system) not in {"", dead}


async def _until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_TURN_MAX_S):
        while not await is_so():
            await asyncio.sleep(_LOOK_INTERVAL_S)


def _note(scene: Scene, name: str, begin: float) -> None:
    """Keeps the worst."""
    scene.figures[name] = max(scene.figures.get(name, 0.0), round(time.monotonic() - begin, 1))
