"""Limits that are real: bytes a second on a link, and a share of the processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hocket.core.clock import Clock

LATE_S = 0.02  # a wait that ends later than it should by less than this is made up for


class TokenBucket:
    """Lets `bytes_per_s` pass, however small the transfer: an idle link saves nothing up.

    It satisfies `hocket.rpc.transfer.Pacer`. Takers that overlap share the rate.
    """

    def __init__(self, bytes_per_s: float, clock: Clock) -> None:
        if bytes_per_s <= 0.0:
            raise ValueError(f"bytes_per_s is {bytes_per_s}; it must be above 0")
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self._free_at = clock.now()  # when all that was taken so far has passed

    async def take(self, num_bytes: int) -> None:
        """Return once `num_bytes` have passed at the rate, behind what was taken before."""
        now = self._clock.now()
        if now - self._free_at > LATE_S:
            self._free_at = now
        self._free_at += num_bytes / self.bytes_per_s
        await self._clock.sleep_until(self._free_at)


class DutyCycle:
    """Holds a thread to a share of one processor: after work it rests, as cpulimit does.

    Work that took `dt` processor seconds is followed by a rest of dt * (1 / share - 1) seconds.
    """

    def __init__(
        self,
        share: Callable[[], float],
        sleep: Callable[[float], object],
        busy_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._share = share
        self._sleep = sleep
        self._busy_s = busy_s

    @contextmanager
    def work(self) -> Iterator[None]:
        """Time the block, then rest for it."""
        began = self._busy_s()
        yield
        rest = rest_s(self._busy_s() - began, self._share())
        if rest > 0.0:
            self._sleep(rest)


def rest_s(busy_s: float, share: float) -> float:
    """Seconds to rest after `busy_s` seconds of work, so that work is `share` of the whole."""
    return busy_s * (1.0 / share - 1.0)
