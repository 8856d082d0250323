"""Streams in closed loop: each begins its next transfer when the one before is answered."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ran:
    """How long it took in all, and each transfer by itself."""

    seconds: float
    latencies_s: tuple[float, ...]

    def percentile_ms(self, share: float) -> float:
        """The latency that this share of the transfers did not exceed (nearest rank)."""
        return 1e3 * nearest_rank(sorted(self.latencies_s), share)


async def closed_loop(
    transfer: Callable[[int, int], Awaitable[None]],
    *,
    streams: int,
    count: int,
    seconds: float = math.inf,
    done: Callable[[int], None] = lambda _: None,
) -> Ran:
    """Await `transfer(stream, number)` for numbers 0 to `count` - 1, `streams` at a time.

    None begins after `seconds`. `done` is told after each how many there have been.
    """
    began_s = time.perf_counter()
    latencies_s: list[float] = []
    numbers = iter(range(count))

    async def stream(index: int) -> None:
        for number in numbers:
            sent_s = time.perf_counter()
            if sent_s - began_s >= seconds:
                return
            await transfer(index, number)
            latencies_s.append(time.perf_counter() - sent_s)
            done(len(latencies_s))

    try:
        async with asyncio.TaskGroup() as group:
            for index in range(streams):
                group.create_task(stream(index))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return Ran(time.perf_counter() - began_s, tuple(latencies_s))


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the ordered values does not exceed."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
