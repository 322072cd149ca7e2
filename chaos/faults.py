"""What may happen to a system. Each returns at the moment of the heal: from then on nothing is broken any more."""

import asyncio
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import psycopg

from chaos.proxy import FAIR, Weather
from chaos.record import Record
from chaos.system import SERVICE_NAMES, TWINS, System
from deploy.broker import ask
from deploy.services import ROLES


@dataclass
class Scene:
    """Where a fault happens: what it may break, what draws its moments, what it may note."""

    system: System
    random: Random
    record: Record
    cell: str
    figures: dict[str, float] = field(default_factory=dict)


Fault = Callable[[Scene], Awaitable[None]]

KILLS: Final = 3
KILL_GAP_S: Final = (1.0, 3.0)
LINK_DOWN_S: Final = 12.0
CLOCK_WRONG_S: Final = 6.0
# Of Debian's package faketime; $LIB is the loader's own word for the folder of this machine's kind.
FAKETIME: Final = "/usr/$LIB/faketime/libfaketime.so.1"
# Long enough for the reply to come after the caller's deadline of 10 s.
LATE_REPLY_S: Final = 11.0
WORK_QUEUES: Final = ("reservations.commands", "reservations.money", "payments.charges", "payments.refunds")
NUMBERS_OF_SHARDS: Final = (4, 2, 1)
API_TIMEOUT_S: Final = 5.0
SERVES_POLL_S: Final = 0.1
RABBITMQCTL: Final = "/usr/lib/rabbitmq/bin/rabbitmqctl"
RABBITMQCTL_TIMEOUT_S: Final = 30.0
# As deploy/rabbitmq.py sets it.
MEMORY_LIMIT_BYTES: Final = 1024 * 1024 * 1024
# The gateway serves only with its connections to the broker up.
_HEALTH_OF: Final = {"rabbitmq": "gateway"}


def killed(name: str, *, times: int = KILLS) -> Fault:
    """kill -9 at moments that the seed draws, each time as soon as it serves again; the orchestrator restarts it."""

    async def fault(scene: Scene) -> None:
        system, random = scene.system, scene.random
        for turn in range(times):
            await asyncio.sleep(random.uniform(*KILL_GAP_S))
            part = (await system.parts_of(name))[0]
            await system.kill(part)
            await system.is_back(part)
            if turn < times - 1:
                await _serves(system, name)

    return fault


def paused(name: str, seconds: float) -> Fault:
    """SIGSTOP, then SIGCONT: the process is there, its connections are there, and nothing comes back."""

    async def fault(scene: Scene) -> None:
        system = scene.system
        part = (await system.parts_of(name))[0]
        system.signal(part, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            system.signal(part, signal.SIGCONT)

    return fault


def weather(callees: Sequence[tuple[str, str]], what: Weather, seconds: float = LINK_DOWN_S) -> Fault:
    """Weather on these links for a while; connections that lost a byte stay silent after it."""

    async def fault(scene: Scene) -> None:
        system = scene.system
        links = [system.links[link] for link in callees]
        for link in links:
            link.weather = what
        try:
            await asyncio.sleep(seconds)
        finally:
            for link in links:
                link.weather = FAIR

    return fault


def reset(callees: Sequence[tuple[str, str]], *, times: int = 8) -> Fault:
    """RST on every connection of these links, again and again."""

    async def fault(scene: Scene) -> None:
        system, random = scene.system, scene.random
        for _ in range(times):
            for link in callees:
                system.links[link].reset()
            await asyncio.sleep(random.uniform(0.2, 1.5))

    return fault


def down(names: Sequence[str], seconds: float, *, by: str = "SIGKILL") -> Fault:
    """Gone for so long, then started again."""

    async def fault(scene: Scene) -> None:
        system = scene.system
        parts = [part for name in names for part in await system.parts_of(name)]
        with system.hands_off(*parts):
            for part in parts:
                await (system.kill(part) if by == "SIGKILL" else system.terminate(part))
            await asyncio.sleep(seconds)
        for part in parts:
            await system.is_back(part)

    return fault


async def memory_alarm(scene: Scene) -> None:
    """The broker takes nothing more from publishers, and says nothing about it."""
    system = scene.system
    await _limit_memory(system, 1)
    try:
        await asyncio.sleep(LINK_DOWN_S)
    finally:
        await _limit_memory(system, MEMORY_LIMIT_BYTES)


async def queues_deleted(scene: Scene) -> None:
    """An operator's mistake: each work queue is deleted, shard by shard, with whatever is in it."""
    system, random = scene.system, scene.random
    queues = [
        name for queue in WORK_QUEUES for name in (queue, *(f"{queue}.{shard}" for shard in range(system.shards)))
    ]
    for queue in random.sample(queues, len(queues)):
        await asyncio.to_thread(_delete_queue, system.env, queue)
        await asyncio.sleep(random.uniform(0.5, 1.5))


async def broker_wiped(scene: Scene) -> None:
    """The broker dies, with all its nodes if it has several, and comes back on an empty disk."""
    system = scene.system
    parts = await system.parts_of("rabbitmq")
    with system.hands_off(*parts):
        for part in parts:
            await system.kill(part)
            shutil.rmtree(system.run_dir / part / "data")
    for part in parts:
        await system.is_back(part)


async def backends_terminated(scene: Scene) -> None:
    """Every connection of every service to the database is ended by the database, again and again."""
    system, random = scene.system, scene.random
    roles = [role.name for role in ROLES]
    for _ in range(6):
        async with system.database() as conn:
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY(%s)", [roles]
            )
        await asyncio.sleep(random.uniform(0.3, 1.5))


async def tables_locked(scene: Scene) -> None:
    """Somebody's forgotten transaction: nobody gets at the tables, and each statement fails after the lock timeout."""
    system = scene.system
    async with system.database() as conn, conn.transaction():
        await conn.execute("LOCK TABLE reservations.reservation, payments.payment IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(LINK_DOWN_S)


async def database_stopped_at_once(scene: Scene) -> None:
    """As pg_ctl stop -m immediate: no goodbye to anybody, crash recovery at the next start."""
    system, random = scene.system, scene.random
    for _ in range(2):
        await asyncio.sleep(random.uniform(*KILL_GAP_S))
        part = (await system.parts_of("postgres"))[0]
        await system.kill(part, by=signal.SIGQUIT)
        await system.is_back(part)
        await _serves(system, "postgres")


async def rolling_restart(scene: Scene) -> None:
    """Two of each service; each is restarted in turn by SIGTERM."""
    system = scene.system
    await system.add_twins()
    with system.hands_off(*TWINS):
        for name in TWINS:
            for stack in (system.twin, system.stack):
                await system.terminate(name, stack=stack)
                await system.up(name, stack=stack)
    await system.remove_twins()


async def shards_changed(scene: Scene) -> None:
    """Two of each service, each told in turn of another number of shards: for a while they go by different ones."""
    system = scene.system
    others = [shards for shards in NUMBERS_OF_SHARDS if shards != system.shards]
    await system.add_twins()
    with system.hands_off(*TWINS):
        for shards in (*others, system.shards):
            for name in TWINS:
                system.tell(name, "SHARDS", str(shards))
                for stack in (system.twin, system.stack):
                    await system.terminate(name, stack=stack)
                    await system.up(name, stack=stack)
    await system.remove_twins()


def clocks_wrong(hours: int) -> Fault:
    """The clock of one service after the other is wrong, the others' are right."""

    async def fault(scene: Scene) -> None:
        system = scene.system
        for name in SERVICE_NAMES:
            parts = await system.parts_of(name)
            with system.hands_off(*parts):
                system.variables[name] = {
                    "LD_PRELOAD": FAKETIME,
                    "FAKETIME": f"{hours:+d}h",
                    # Deadlines are none of the wall clock's business.
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                    "DONT_FAKE_MONOTONIC": "1",
                }
                await system.up(*parts)
                await asyncio.sleep(CLOCK_WRONG_S)
                del system.variables[name]
                await system.up(*parts)

    return fault


async def _serves(system: System, name: str) -> None:
    """Returns when a part does its work again."""
    while not (await _answers(system) if name == "postgres" else await system.serves(_HEALTH_OF.get(name, name))):
        await asyncio.sleep(SERVES_POLL_S)


async def _answers(system: System) -> bool:
    try:
        async with system.database() as conn:
            # One that was a standby a moment ago answers before it may write.
            cursor = await conn.execute("SELECT NOT pg_is_in_recovery()")
            return await cursor.fetchone() == (True,)
    except psycopg.Error:
        return False


def _delete_queue(env: Mapping[str, str], queue: str) -> None:
    ask(env["RABBITMQ_MANAGEMENT_URL"], env["AMQP_URL"], "DELETE", f"/api/queues/%2F/{queue}")


async def _limit_memory(system: System, limit_bytes: int) -> None:
    for part in await system.parts_of("rabbitmq"):
        await limit_memory(system.stack.pid(part), limit_bytes)


async def limit_memory(pid: int | None, limit_bytes: int) -> None:
    """From there on this RabbitMQ raises its alarm. It is asked as its own operator would: with its own environment."""
    asked = await asyncio.create_subprocess_exec(
        RABBITMQCTL,
        *("set_vm_memory_high_watermark", "absolute", str(limit_bytes)),
        env=_environment_of(pid),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(RABBITMQCTL_TIMEOUT_S):
        told, _ = await asked.communicate()
    if asked.returncode:
        raise RuntimeError(f"rabbitmqctl failed: {told.decode()}")


def _environment_of(pid: int | None) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(line.decode().split("=", 1) for line in lines if b"=" in line)
