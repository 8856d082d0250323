"""What the device can afford now: the share of a processor, and memory.

DISTREAL (AAAI 2022) calls the share r, in the unit of a dropout vector's relative cost M.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hocket_device import cgroup

WINDOW_S = 1.0  # how far back measurements count
LEAST_SHARE = 0.01
TOLERANCE = 0.05  # a measured share this far below 1 is still all of the processor


class Resources:
    """Measured while training, bounded by what is allowed.

    Args:
        allowed_share: share of a processor that the owner grants now, in (0, 1].
        quota: processors that the system grants, as `cgroup.processor_quota` reads it.
        memory_bytes: memory that can be taken now; 0 if unknown.
    """

    def __init__(
        self,
        allowed_share: Callable[[], float],
        quota: Callable[[], float] = cgroup.processor_quota,
        memory_bytes: Callable[[], int] = cgroup.memory_bytes,
    ) -> None:
        self._allowed_share = allowed_share
        self._quota = quota()  # a container's quota does not change while it runs
        self._memory_bytes = memory_bytes
        self._measured: deque[tuple[float, float]] = deque()  # (busy, wall) seconds of mini-batches
        self._busy_s = 0.0
        self._wall_s = 0.0

    def observe(self, busy_s: float, wall_s: float) -> None:
        """A mini-batch took `busy_s` processor seconds within `wall_s` seconds, rests included."""
        self._measured.append((busy_s, wall_s))
        self._busy_s += busy_s
        self._wall_s += wall_s
        while len(self._measured) > 1 and self._wall_s - self._measured[0][1] >= WINDOW_S:
            oldest_busy_s, oldest_wall_s = self._measured.popleft()
            self._busy_s -= oldest_busy_s
            self._wall_s -= oldest_wall_s

    def granted_s(self, busy_s: float) -> float:
        """Seconds in which the system grants `busy_s` processor seconds to one thread."""
        return busy_s / min(1.0, self._quota)

    def share(self) -> float:
        """r: the share of a processor to be had now, in (0, 1]."""
        granted = min(1.0, self._quota, self._allowed_share())
        if self._wall_s <= 0.0:
            return max(LEAST_SHARE, granted)
        measured = self._busy_s / self._wall_s / (1.0 - TOLERANCE)
        return max(LEAST_SHARE, min(granted, measured))

    def memory_bytes(self) -> int:
        """Memory that can be taken now; 0 if unknown."""
        return self._memory_bytes()
