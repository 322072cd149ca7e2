"""Old and new services side by side, on the new schema and one broker: `make proof-upgrade`.

The last release installs itself and sells. Then our migrations come, while it sells on; then each service is replaced
by ours, one after the other, and then each by the old one again. After every step somebody buys, pays in parts,
cancels, lets a hold run out and is refunded, and finishes what was begun before the step: so every command and every
fact is said by one version and taken in by the other, both ways round.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg
from rich.console import Console

from deploy.process import wait_until
from deploy.stack import START_DEADLINE_S, Stack
from tests.e2e.house import SERVICES, House, connected, within
from tests.e2e.office import Office, Payment, Reservation, Sale
from tests.proof.release import Release, unpacked

SERVERS: Final = ("postgres", "rabbitmq")
# Downstream first, as docs/operations.md has it; the processor is somebody else's.
ORDER: Final = ("provider", "reservations", "payments", "scheduler", "gateway")
LONG_S: Final = 3_600
console: Final = Console(width=150)


class Upgrade:
    """One stack that is upgraded, and its callers, who notice nothing."""

    def __init__(self, old: Release, run_dir: Path, say: Callable[[str], None]) -> None:
        self._old = old
        self._say = say
        self._settings: dict[str, dict[str, str]] = {}
        self._run_dir = run_dir
        self._begun: list[Reservation] = []
        self.stack = Stack(run_dir)
        self.versions = dict.fromkeys(SERVICES, "old")

    async def run(self, sabotage: str) -> None:
        """Fails where a caller notices. `sabotage` is SQL that a bad migration could have had."""
        self._settings = await asyncio.to_thread(self._old.install, self._run_dir, (*SERVERS, *SERVICES))
        for name in SERVICES:
            await asyncio.to_thread(self._old.check, name)
        await self._sell("the last release, on its own schema")
        await asyncio.to_thread(self._migrate, sabotage)
        await self._sell("the last release, on our schema")
        for name in ORDER:
            await asyncio.to_thread(self._replace_by_new, name)
            await self._sell(f"{name} is ours")
        await self._judge()
        for name in ORDER:
            await asyncio.to_thread(self._replace_by_old, name)
            await self._sell(f"{name} is the old one again")
        await self._judge()

    def _migrate(self, sabotage: str) -> None:
        """What a Job does before a rollout: schema, rights, users and queues, with our code."""
        self.stack.up(SERVERS)
        self.stack.migrate()
        if sabotage:
            with psycopg.connect(self.stack.env["DATABASE_URL"], autocommit=True) as conn:
                conn.execute(sabotage.encode())

    def _replace_by_new(self, name: str) -> None:
        self.stack.down((name,))
        self.stack.up((name,))
        self.versions[name] = "new"

    def _replace_by_old(self, name: str) -> None:
        self.stack.down((name,))
        self._old.start(name, self._run_dir, self._settings[name])
        serves = wait_until(lambda: self.stack.is_serving(name), START_DEADLINE_S)
        assert serves, f"the old {name} does not serve:\n{self.stack.log(name).read_text()[-3000:]}"
        self.versions[name] = "old"

    async def _sell(self, what: str) -> None:
        """One of everything; and what was left over at the last step comes to its end."""
        begin = time.monotonic()
        async with connected(self.stack.address("gateway"), self.stack.operator_token) as channel:
            office = Office(channel)
            for half_paid in self._begun:
                paid = await office.pay(half_paid)
                assert paid.reservation.state == Reservation.STATE_CONFIRMED, paid
            sale = await office.put_on_sale(5, hold_s=LONG_S, instalment_hold_s=LONG_S)
            await office.buy(sale, "ada", sale.tickets[:1])
            await self._cancel(office, sale)
            await self._refund(office, sale)
            await self._expire(office)
            begun = await office.held(sale, "eve", sale.tickets[4:])
            await office.pay(begun, 1_000)
            self._begun = [begun]
        mix = " ".join(f"{name}:{version}" for name, version in self.versions.items())
        self._say(f"{what:45} {mix}  {time.monotonic() - begin:.1f} s")

    async def _cancel(self, office: Office, sale: Sale) -> None:
        held = await office.held(sale, "bob", sale.tickets[1:3])
        paid = (await office.pay(held, 2_000)).payment
        assert (await office.cancel(held)).state == Reservation.STATE_CANCELLED
        await office.payment_becomes(paid, Payment.STATE_REFUNDED)

    async def _refund(self, office: Office, sale: Sale) -> None:
        bought = await office.buy(sale, "cyd", sale.tickets[3:4])
        assert (await office.refund(bought)).state == Reservation.STATE_CANCELLED
        await office.until(bought, lambda now: now.refunded_minor == now.total_minor)

    async def _expire(self, office: Office) -> None:
        brief = await office.put_on_sale(1, hold_s=1)
        held = await office.held(brief, "dan")
        await office.becomes(held, Reservation.STATE_EXPIRED)

    async def _judge(self) -> None:
        """Every book agrees to the cent, and every seat is somebody's or on sale."""
        async with (
            connected(self.stack.address("gateway"), self.stack.operator_token) as channel,
            within(self.stack, "provider") as provider_channel,
        ):
            for begun in self._begun:
                await Office(channel).pay(begun)
            self._begun = []
            await House(self.stack, channel, provider_channel).balances()

    def stop(self) -> None:
        """Ends and removes it all."""
        for name in (*SERVICES, "rabbitmq"):
            self.stack.kill(name)
        self.stack.clean()


def main() -> None:
    """Ends with an AssertionError when somebody notices."""
    parser = argparse.ArgumentParser(description="Old and new services side by side.")
    parser.add_argument("--sabotage", default="", metavar="SQL", help="run after our migrations: must be noticed")
    arguments = parser.parse_args()
    begin = time.monotonic()
    run_dir = Path(tempfile.mkdtemp(prefix="ticketrush-upgrade-"))
    try:
        with unpacked() as old:
            console.print(f"from {old.commit[:7]} to what is here", highlight=False)
            upgrade = Upgrade(old, run_dir, lambda line: console.print(line, highlight=False))
            try:
                asyncio.run(upgrade.run(arguments.sabotage))
            finally:
                upgrade.stop()
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)
    console.print(f"nobody noticed, {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
