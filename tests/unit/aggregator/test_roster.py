"""The mirror of the registry: resumed after breaks, asked once for whoever speaks too early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from hocket_aggregator.roster import Roster
from support.aggregating import until
from support.clock import ManualClock
from support.scalar import caller, device

from hocket.core.device import Device, DeviceFilter
from hocket.core.events import DeviceSeen
from hocket.errors import Unavailable

Change = tuple[tuple[Device, ...], int]


@dataclass
class ScriptedRegistry:
    """Each watch plays the next script, then breaks; the last one stays open."""

    scripts: list[list[Change]] = field(default_factory=list)
    known: list[Device] = field(default_factory=list)
    watched_from: list[int] = field(default_factory=list)
    listed: list[DeviceFilter] = field(default_factory=list)

    async def watch(self, after_revision: int = 0) -> AsyncGenerator[Change, None]:
        self.watched_from.append(after_revision)
        script = self.scripts.pop(0) if self.scripts else []
        for change in script:
            yield change
        if not self.scripts:
            await asyncio.Event().wait()
        raise Unavailable("broke off")

    async def list_devices(self, which: DeviceFilter) -> AsyncIterator[Device]:
        self.listed.append(which)
        for one in self.known:
            if which.matches(one):
                yield one


def at(one: Device, revision: int) -> Device:
    return replace(one, revision=revision)


@asynccontextmanager
async def mirroring(
    registry: ScriptedRegistry,
) -> AsyncIterator[tuple[Roster, ManualClock, list[Device]]]:
    clock, seen = ManualClock(), list[Device]()

    async def tell(event: DeviceSeen) -> None:
        seen.append(event.device)

    roster = Roster(registry, tell, clock, lambda: 0.5)
    running = asyncio.ensure_future(roster.run())
    try:
        yield roster, clock, seen
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def test_after_a_break_it_goes_on_from_the_last_revision() -> None:
    a, b = at(device("a"), 4), at(device("b"), 6)
    registry = ScriptedRegistry([[((a,), 4)], [((b,), 6)]])
    async with mirroring(registry) as (_, clock, seen):
        await until(lambda: seen == [a])
        await clock.advance(15.0)
        await until(lambda: seen == [a, b])
        assert registry.watched_from == [0, 4]


async def test_older_news_of_a_device_is_not_passed_on() -> None:
    newer, older = at(device("a", 2), 9), at(device("a", 1), 3)
    async with mirroring(ScriptedRegistry([[]], known=[newer])) as (roster, _, seen):
        await roster.look_up(caller("a", 2))
        await roster._take((older,), 3)
        assert seen == [newer]


async def test_a_registry_that_lost_its_memory_is_believed() -> None:
    before, after = at(device("a", 7), 90), at(device("a", 1), 1)
    registry = ScriptedRegistry([[((before,), 90)], [((after,), 1)]])
    async with mirroring(registry) as (_, clock, seen):
        await until(lambda: seen == [before])
        await clock.advance(15.0)
        await until(lambda: seen == [before, after])


async def test_a_device_is_asked_for_at_most_once_a_second() -> None:
    registry = ScriptedRegistry([[]])
    async with mirroring(registry) as (roster, clock, seen):
        await roster.look_up(caller("ghost"))
        await roster.look_up(caller("ghost"))
        assert len(registry.listed) == 1
        await clock.advance(1.0)
        registry.known = [at(device("ghost"), 5)]
        await roster.look_up(caller("ghost"))
        assert len(registry.listed) == 2
        assert [one.device_id for one in seen] == ["ghost"]


async def test_those_who_ask_at_the_same_time_share_the_answer() -> None:
    registry = ScriptedRegistry([[]], known=[at(device("a"), 1)])
    async with mirroring(registry) as (roster, _, seen):
        await asyncio.gather(*(roster.look_up(caller("a")) for _ in range(5)))
        assert len(registry.listed) == 1
        assert len(seen) == 1
