"""Tasks that wait until a number that only rises has come so far."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from hocket.errors import HocketError


class Waiting:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    async def until(self, goal: int) -> None:
        """Return once the number is at `goal`; raises what `give_up` says."""
        done = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (goal, next(self._order), done))
        await done

    def reach(self, number: int) -> None:
        """The number has come so far."""
        while self._heap and self._heap[0][0] <= number:
            _, _, done = heapq.heappop(self._heap)
            if not done.done():
                done.set_result(None)

    def give_up(self, why: Callable[[], HocketError]) -> None:
        """It will come no further."""
        for _, _, done in self._heap:
            if not done.done():
                done.set_exception(why())
        self._heap.clear()
