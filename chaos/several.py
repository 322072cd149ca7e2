"""A stack of several of everything, to be broken: the same links, and more than one process behind each name."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos.system import SERVICE_NAMES, WATCH_INTERVAL_S, System, descendants
from deploy.ha import brokers, patroni
from deploy.ha.stack import HaStack
from deploy.ha.table import BROKERS, DATABASES, INSTANCES, SERVERS, of
from deploy.services import SHARDS_DEFAULT


class HaSystem(System):
    """`postgres` is the primary, `rabbitmq` the broker that leads most; of a service the first is on side a."""

    servers = SERVERS
    services = tuple(instance.name for instance in INSTANCES)
    # The same cores carry a call twice or three times.
    buyers = 20

    def __init__(self, run_dir: Path, *, shards: int = SHARDS_DEFAULT) -> None:
        self._several = HaStack(run_dir)
        super().__init__(run_dir, shards=shards)

    def _make_stack(self) -> HaStack:
        self._several = HaStack(self.run_dir, settings=self._settings, variables=self.variables, shards=self.shards)
        return self._several

    async def parts_of(self, name: str) -> Sequence[str]:
        """The parts that are a server or a service; the first is the one whose end is felt most."""
        if name == "postgres":
            found = await self.roles()
            return sorted(DATABASES, key=lambda part: found.get(part) != "leader")
        if name == "rabbitmq":
            led = brokers.leaders(await self.queues())
            return sorted(BROKERS, key=lambda part: -led[part])
        return [instance.name for instance in of(name)] if name in SERVICE_NAMES else [name]

    async def serves(self, name: str) -> bool:
        """Whether each process of a service says so."""
        parts = await self.parts_of(name)
        return all(await asyncio.gather(*(super(HaSystem, self).serves(part) for part in parts)))

    async def kill(self, name: str, *, by: signal.Signals = signal.SIGKILL) -> None:
        """Ends the process of a part, and waits until it is gone; a database's Patroni and PostgreSQL both."""
        if name not in DATABASES:
            await super().kill(name, by=by)
        elif by == signal.SIGKILL:
            self._killed.add(name)
            await asyncio.to_thread(self._several.kill, name)
        else:
            await self.kill_postgres(name, by=by)

    async def kill_postgres(self, name: str, *, by: signal.Signals = signal.SIGKILL) -> None:
        """Ends the PostgreSQL of a database alone, and waits until it is gone: its Patroni lives."""
        pid = patroni.postmaster(self.run_dir, name)
        if pid is not None:
            os.kill(pid, by)
        while pid is not None and patroni.postmaster(self.run_dir, name) == pid:
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def kill_patroni(self, name: str) -> None:
        """Ends the Patroni of a database alone: its PostgreSQL lives."""
        await super().kill(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """To a part and all its processes; to a database as to its machine."""
        super().signal(name, number)
        if name in DATABASES and (pid := patroni.postmaster(self.run_dir, name)) is not None:
            for one in (pid, *descendants(pid)):
                os.kill(one, number)

    async def roles(self) -> Mapping[str, str]:
        """What each database is now, by whichever of them answers."""
        return await asyncio.to_thread(patroni.roles, self._several.servers.databases)

    async def queues(self) -> Sequence[Mapping[str, object]]:
        """The quorum queues, by whichever broker answers. Raises OSError when none does."""
        return await asyncio.to_thread(brokers.queues_by_any, self._several.servers.brokers)

    async def apart(self) -> str:
        """The broker that the others say they are parted from; "" if none."""
        return await asyncio.to_thread(brokers.apart, self._several.servers.brokers)
