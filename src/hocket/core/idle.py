"""The devices that can be triggered now, in the order of their ids, found by rank."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence

from hocket.core.chance import beyond
from hocket.core.ids import DeviceId

BLOCK = 256
"""Half of what a block of ids holds before it is split."""


class IdleOrder:
    """A set of ids that knows its n-th: what a sorted list would answer, in O(log n).

    The ids lie in sorted blocks whose bounds stay, and a tree of their sizes (Fenwick) finds the
    block that holds a rank. A block that has filled up is split, which counts all sizes afresh.
    """

    def __init__(self, block: int = BLOCK) -> None:
        self._block = block
        self._ids: set[DeviceId] = set()
        self._starts: list[str] = [""]  # no id of block k is before the k-th of these
        self._blocks: list[list[DeviceId]] = [[]]
        self._sizes = _Sizes([0])

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, device_id: DeviceId) -> bool:
        return device_id in self._ids

    def put(self, device_id: DeviceId) -> None:
        """Take an id in; one that is here already stays where it is."""
        if device_id in self._ids:
            return
        self._ids.add(device_id)
        where = self._where(device_id)
        block = self._blocks[where]
        insort(block, device_id)
        self._sizes.add(where, 1)
        if len(block) > 2 * self._block:
            self._split(where)

    def take_out(self, device_id: DeviceId) -> None:
        """Let an id go, if it is here."""
        if device_id not in self._ids:
            return
        self._ids.remove(device_id)
        where = self._where(device_id)
        block = self._blocks[where]
        del block[bisect_left(block, device_id)]
        self._sizes.add(where, -1)

    def at(self, rank: int) -> DeviceId:
        """The id with so many others before it; raises IndexError for a rank that none has."""
        if not 0 <= rank < len(self._ids):
            raise IndexError(f"rank {rank} of {len(self._ids)} idle devices")
        where, within = self._sizes.find(rank)
        return self._blocks[where][within]

    def rank_of(self, device_id: DeviceId) -> int:
        """How many ids are before this one, be it here or not."""
        where = self._where(device_id)
        return self._sizes.before(where) + bisect_left(self._blocks[where], device_id)

    def ranks_without(self, barred: Iterable[DeviceId]) -> Rest:
        """The same order without some ids, as long as nothing is put in or taken out."""
        return Rest(self, sorted(self.rank_of(name) for name in barred if name in self._ids))

    def _where(self, device_id: DeviceId) -> int:
        return bisect_right(self._starts, device_id) - 1

    def _split(self, where: int) -> None:
        block = self._blocks[where]
        half = len(block) // 2
        self._blocks[where : where + 1] = [block[:half], block[half:]]
        self._starts.insert(where + 1, block[half])
        self._sizes = _Sizes([len(block) for block in self._blocks])


class Rest:
    """The idle devices without those at some ranks."""

    def __init__(self, order: IdleOrder, taken: Sequence[int]) -> None:
        self._order = order
        self._taken = taken  # ascending

    def __len__(self) -> int:
        return len(self._order) - len(self._taken)

    def __contains__(self, device_id: DeviceId) -> bool:
        if device_id not in self._order:
            return False
        rank = self._order.rank_of(device_id) if self._taken else 0
        at = bisect_left(self._taken, rank)
        return at == len(self._taken) or self._taken[at] != rank

    def at(self, rank: int) -> DeviceId:
        """The id with so many of the rest before it; raises IndexError if there is none."""
        return self._order.at(rank + beyond(self._taken, rank))


class _Sizes:
    """The sizes of the blocks as sums over powers of two (Fenwick 1994)."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sums = [0, *sizes]
        self._top = 1 << (len(sizes).bit_length() - 1)
        for at in range(1, len(self._sums)):
            above = at + (at & -at)
            if above < len(self._sums):
                self._sums[above] += self._sums[at]

    def add(self, where: int, change: int) -> None:
        """Block `where` has grown by `change`."""
        at = where + 1
        while at < len(self._sums):
            self._sums[at] += change
            at += at & -at

    def before(self, where: int) -> int:
        """The sizes of all blocks before `where`."""
        total = 0
        while where:
            total += self._sums[where]
            where &= where - 1
        return total

    def find(self, rank: int) -> tuple[int, int]:
        """The block that holds `rank`, and the rank within it."""
        where, step = 0, self._top
        while step:
            ahead = where + step
            if ahead < len(self._sums) and self._sums[ahead] <= rank:
                where = ahead
                rank -= self._sums[ahead]
            step >>= 1
        return where, rank
