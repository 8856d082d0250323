"""Items ordered by a key that may change."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
LEAST_TO_COMPACT = 16


class Ordering(Generic[T]):
    """Finds the item of the smallest key; among equal keys, the one that was put first.

    `put`, `discard` and `first` cost O(log n) amortised: outdated entries stay in the heap until
    they surface, or until they are more than the items and the heap is rebuilt.
    """

    __slots__ = ("_heap", "_numbers", "_put")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._numbers: dict[T, int] = {}  # of each item's valid entry
        self._put = 0

    def __len__(self) -> int:
        """Number of items."""
        return len(self._numbers)

    def put(self, item: T, key: float) -> None:
        """Add an item, or give it another key."""
        self._numbers[item] = self._put
        heappush(self._heap, (key, self._put, item))
        self._put += 1
        self._compact()

    def discard(self, item: T) -> None:
        """Take an item out, if it is here."""
        if self._numbers.pop(item, None) is not None:
            self._compact()

    def first(self) -> tuple[float, T] | None:
        """The smallest key and its item; None if there is none."""
        heap = self._heap
        while heap:
            key, number, item = heap[0]
            if self._numbers.get(item) == number:
                return key, item
            heappop(heap)
        return None

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._numbers) + LEAST_TO_COMPACT:
            numbers = self._numbers
            self._heap = [entry for entry in self._heap if numbers.get(entry[2]) == entry[1]]
            heapify(self._heap)
