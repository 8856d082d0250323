"""A fleet in training whose processes are killed again and again, and all checked after each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from support.audit import Auditor
from support.book import Book
from support.crash_fleet import CrashFleet, crash_fleet
from support.join_witness import JoinWitness
from support.supervised import Supervised
from support.troubles import Target, Trouble, troubles
from support.witness import witness

from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient

NUM_DEVICES = 2
NUM_WITNESSES = 2
COMMAND_EVERY = 16  # examinations: `hocket replay` loads torch anew each time
NOTICED_S = 0.1  # until an end that has come is seen
EXAMINED = "kills examined"
IN_RECOVERY = "killed before it served"  # the next examination is of both kills


@dataclass(frozen=True, slots=True)
class Campaign:
    """What is trained, and how often each place of each target is visited."""

    strategy: str
    codec: str
    rounds: dict[Target, int]


@dataclass(slots=True)
class Chaos:
    """A campaign on its way."""

    fleet: CrashFleet
    book: Book
    auditor: Auditor
    kills: Counter[str]
    _begun: int = 0  # examinations
    _ended: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def examine(self) -> None:
        """See that the recovery was sound, and that training goes on for everybody."""
        self._begun += 1
        await self.auditor.goes_on([device.name for device in self.fleet.devices])
        newest = await self.audit()
        if self._begun % COMMAND_EVERY == 0:  # of a version on record: those after it may not be
            told = await self.auditor.replay_by_command(newest)
            assert told["equal"], told
            self.book.counts["replays by command equal"] += 1
        self.book.counts["examinations"] += 1
        async with self._changed:
            self._ended = self._begun
            self._changed.notify_all()

    async def audit(self) -> int:
        """Everything that was promised, and how much there was of it; the newest version seen."""
        found = await self.auditor.audit()
        recovered = self.fleet.aggregator.events("state_recovered")
        self.book.counts["versions made"] = len(found.versions) - 1
        self.book.counts["updates in versions"] = len(found.updates)
        self.book.counts["updates lived through again"] = sum(r["updates"] for r in recovered)
        self.book.counts["bodies taken back"] = sum(r["bodies"] for r in recovered)
        return found.versions[-1].version

    async def examined(self) -> None:
        """Until an examination has ended that began after now."""
        wanted = self._begun + 1
        async with self._changed:
            await self._changed.wait_for(lambda: self._ended >= wanted)

    async def trouble(
        self, process: Supervised, trouble: Trouble, examine: Callable[[], Awaitable[None]]
    ) -> None:
        """Kill it at work, and again at the place; each time have what is left examined."""
        await asyncio.sleep(trouble.after_s)
        await process.kill()
        self.kills[f"{trouble.target} at random"] += 1
        armed = self.fleet.home / f"{process.name}.armed"
        if trouble.in_recovery:
            armed.touch()
        await process.start(trouble.place, trouble.count, armed)
        if await self._lives_on(process, armed):
            await examine()
            self.book.counts[EXAMINED] += 1
            armed.touch()
            await process.died()
        else:
            self.book.counts[IN_RECOVERY] += 1
        _disarm(armed)
        self.kills[f"{trouble.target} {trouble.place}"] += 1
        await process.serve()
        await examine()
        self.book.counts[EXAMINED] += 1

    async def _lives_on(self, process: Supervised, armed: Path) -> bool:
        """Whether it serves, and nothing ends it from here on while `armed` is not there."""
        if not await process.served():
            return False
        if _disarm(armed):
            await asyncio.sleep(NOTICED_S)
            if not process.alive:
                await process.died()
        return process.alive

    async def run(self, plan: dict[Target, list[Trouble]]) -> None:
        """All troubles; those of the aggregator set the pace, the others come in between."""
        await asyncio.gather(*(process.serve() for process in self.fleet.devices))
        await self.examine()
        async with asyncio.TaskGroup() as others:
            ending = [
                others.create_task(self._registry(plan[Target.REGISTRY])),
                others.create_task(self._devices(plan[Target.DEVICE])),
            ]
            for trouble in plan[Target.AGGREGATOR]:
                await self.trouble(self.fleet.aggregator, trouble, self.examine)
            while not all(other.done() for other in ending):
                await self.examine()

    async def _registry(self, plan: list[Trouble]) -> None:
        for trouble in plan:
            await self.trouble(self.fleet.registry, trouble, self.examined)

    async def _devices(self, plan: list[Trouble]) -> None:
        for number, trouble in enumerate(plan):
            device = self.fleet.devices[number % len(self.fleet.devices)]
            await self.trouble(device, trouble, self.examined)


def _disarm(file: Path) -> bool:
    """Take the file away; whether it was there."""
    there = file.exists()
    file.unlink(missing_ok=True)
    return there


async def run_campaign(
    home: Path, campaign: Campaign, seed: int, book: Book, kills: Counter[str]
) -> None:
    """All of it, counted in `book` and `kills`. Raises ExceptionGroup for what must not be."""
    plan = {target: troubles(target, campaign.rounds[target], seed) for target in Target}
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(
            crash_fleet(home, devices=NUM_DEVICES, strategy=campaign.strategy, codec=campaign.codec)
        )
        await fleet.aggregator.serve()
        witnesses = [
            await stack.enter_async_context(witness(fleet, book, f"witness-{number}", seed))
            for number in range(NUM_WITNESSES)
        ]
        callers = [client.caller for client in witnesses]
        channel = await stack.enter_async_context(open_channel(fleet.registry_address))
        visitors = JoinWitness(RegistryClient(channel), book.counts, seed)
        chaos = Chaos(fleet, book, Auditor(fleet, witnesses[0].aggregator, book), kills)
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(fleet.watch()),
                group.create_task(visitors.run()),
                *(group.create_task(client.run()) for client in witnesses),
            ]
            await chaos.run(plan)
            for task in beside:
                task.cancel()
        assert [client.caller for client in witnesses] == callers  # no lease was lost
        for client in witnesses:  # one that trains for ever would hold a place of the pace
            await client.push(large=False)
        for update_id in book.promises:
            await witnesses[0].repeat(update_id)
        await chaos.audit()
