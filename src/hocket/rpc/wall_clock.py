"""The clock of a running service: the event loop's time, and the calendar's."""

from __future__ import annotations

import asyncio
import time


class WallClock:
    """hocket.core.clock.Clock over the running event loop."""

    def now(self) -> float:
        """Seconds of the loop's monotonic clock."""
        return asyncio.get_running_loop().time()

    def unix(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def sleep_until(self, deadline: float) -> None:
        """Return once `now()` has reached `deadline`."""
        while (left_s := deadline - self.now()) > 0.0:  # noqa: ASYNC110 - a timer may fire early
            await asyncio.sleep(left_s)
