from __future__ import annotations

import asyncio

from support.clock import ManualClock


async def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    clock = ManualClock()
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, deadline: float) -> None:
        await clock.sleep_until(deadline)
        woken.append((name, clock.now()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleep("late", 5.0))
        group.create_task(sleep("early", 2.0))
        never = group.create_task(sleep("never", 9.0))
        await clock.advance(6.0)
        never.cancel()
    assert woken == [("early", 2.0), ("late", 5.0)]
    assert clock.now() == 6.0


async def test_a_sleeper_that_sleeps_again_wakes_within_the_same_advance() -> None:
    clock = ManualClock(now=100.0, unix=1000.0)
    ticks: list[float] = []

    async def tick() -> None:
        while len(ticks) < 3:
            await clock.sleep_until(clock.now() + 10.0)
            ticks.append(clock.unix())

    async with asyncio.TaskGroup() as group:
        group.create_task(tick())
        await clock.advance(30.0)
    assert ticks == [1010.0, 1020.0, 1030.0]
