"""When each device in flight is given up, and which one is next."""

from __future__ import annotations

from heapq import heappop, heappush

from hocket.core.ids import DeviceId


class Timeouts:
    """A heap in which a device waits once, however often its time is put off.

    A time that was put off, or called off, is found out when the old one comes up, so that both
    cost nothing at once.
    """

    def __init__(self) -> None:
        self._at: dict[DeviceId, float] = {}
        self._queue: list[tuple[float, DeviceId]] = []
        self._queued: dict[DeviceId, float] = {}  # the earliest time it waits for in the queue

    def __len__(self) -> int:
        return len(self._at)

    def set(self, device_id: DeviceId, at: float) -> None:
        """Give the device up at `at`, whatever was said before."""
        self._at[device_id] = at
        queued = self._queued.get(device_id)
        if queued is None or at < queued:
            self._enqueue(device_id, at)

    def clear(self, device_id: DeviceId) -> None:
        """Never give the device up."""
        self._at.pop(device_id, None)

    def first(self) -> float | None:
        """The earliest time that is set; None for none."""
        while self._queue:
            queued, device_id = self._queue[0]
            at = self._at.get(device_id)
            if at == queued:
                return at
            heappop(self._queue)
            if self._queued.get(device_id) == queued:
                del self._queued[device_id]
                if at is not None:
                    self._enqueue(device_id, at)
        return None

    def due(self, now: float) -> list[DeviceId]:
        """The devices to give up now, earliest first; they are let go of."""
        due: list[DeviceId] = []
        while (at := self.first()) is not None and at <= now:
            due.append(self._queue[0][1])
            del self._at[due[-1]]
        return due

    def _enqueue(self, device_id: DeviceId, at: float) -> None:
        self._queued[device_id] = at
        heappush(self._queue, (at, device_id))
