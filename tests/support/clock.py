"""A clock that tests move by hand."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

SETTLE_TURNS = 20  # of the event loop, so that what a sleeper started has run before the next wakes


class ManualClock:
    """Implements hocket.core.clock.Clock. Time passes in `advance` only."""

    def __init__(self, now: float = 0.0, unix: float = 1_700_000_000.0) -> None:
        self._now = now
        self._unix_at_zero = unix - now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> float:
        return self._now

    def unix(self) -> float:
        return self._unix_at_zero + self._now

    async def sleep_until(self, deadline: float) -> None:
        if deadline <= self._now:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (deadline, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let time pass; each sleeper wakes at its own deadline, earliest first."""
        end = self._now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            deadline, _, woken = heapq.heappop(self._sleepers)
            if woken.done():  # cancelled while it slept
                continue
            self._now = max(self._now, deadline)
            woken.set_result(None)
            await settle()
        self._now = end


class Sleepless:
    """A clock on which a sleep is over at once, and noted."""

    def __init__(self, slept: list[float]) -> None:
        self._now = 0.0
        self._slept = slept

    def now(self) -> float:
        return self._now

    def unix(self) -> float:
        return self._now

    async def sleep_until(self, deadline: float) -> None:
        self._slept.append(deadline - self._now)
        self._now = max(self._now, deadline)
        await asyncio.sleep(0)


async def settle(turns: int = SETTLE_TURNS) -> None:
    """Let every task that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)
