"""The agenda of a simulation: what happens next, and what time it is. The heap is the clock."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

LEAST_TO_COMPACT = 64


class Entry:
    """Something on the agenda; `do` is None once it has happened or was cancelled."""

    __slots__ = ("do", "when")

    def __init__(self, when: float, do: Callable[[], None]) -> None:
        self.when = when
        self.do: Callable[[], None] | None = do


class Agenda:
    """A heap of entries by time; what is due at the same time happens in order of scheduling.

    Scheduling and handling cost O(log n), cancelling O(1): a cancelled entry stays in the heap
    without its callable, and the heap is rebuilt when more than half of it is cancelled.
    """

    def __init__(self) -> None:
        self.now = 0.0  # seconds of virtual time
        self.handled = 0  # entries that happened so far
        self._heap: list[tuple[float, int, Entry]] = []
        self._scheduled = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """Entries that are still to happen."""
        return len(self._heap) - self._cancelled

    def at(self, when: float, do: Callable[[], None]) -> Entry:
        """Schedule `do` for the time `when`. Raises ValueError for a time before now, or NaN."""
        if not when >= self.now:
            raise ValueError(f"{when} s is not at or after now, {self.now} s")
        entry = Entry(when, do)
        heappush(self._heap, (when, self._scheduled, entry))
        self._scheduled += 1
        return entry

    def after(self, seconds: float, do: Callable[[], None]) -> Entry:
        """Schedule `do` for `seconds` from now. Raises ValueError if negative or NaN."""
        return self.at(self.now + seconds, do)

    def cancel(self, entry: Entry) -> None:
        """Let an entry not happen; nothing is done if it has happened or was cancelled before."""
        if entry.do is None:
            return
        entry.do = None
        self._cancelled += 1
        if 2 * self._cancelled > len(self._heap) >= LEAST_TO_COMPACT:
            self._heap = [item for item in self._heap if item[2].do is not None]
            heapify(self._heap)
            self._cancelled = 0

    def run(self, until: Callable[[], bool]) -> None:
        """Let one entry after another happen until `until()` holds, or nothing is left."""
        while self._heap and not until():
            self._happen()

    def _happen(self) -> None:
        when, _, entry = heappop(self._heap)
        do, entry.do = entry.do, None
        if do is None:
            self._cancelled -= 1
            return
        self.now = when
        self.handled += 1
        do()
