"""Time as the edges own it. The rules never hold a clock: they are told `now`."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """A wall clock in the services, a manual one in tests."""

    def now(self) -> float:
        """Seconds on a monotonic scale; only differences mean anything."""
        ...

    def unix(self) -> float:
        """Seconds since 1970, for records that people read."""
        ...

    async def sleep_until(self, deadline: float) -> None:
        """Return once `now()` has reached `deadline`."""
        ...
