"""Large vectors whose memory is used again: finding fresh pages costs more than a server step.

(44 MB on one core here: 12 ms for the pages, 5 ms for mixing two models into them.)
"""

from __future__ import annotations

import mmap
import weakref
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from hocket.core.manifest import BYTES_PER_VALUE

SMALL = 64 * 1024
"""Vectors of fewer values come from torch, whose own memory is as fast for them."""
HUGE_PAGES: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
"""Linux only. A step over 44 MB takes 15 ms with them and 19 without."""
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
MOST_FREE_BYTES = 512 * 1024 * 1024


class VectorPool:
    """Hands out float32 vectors; what nobody refers to any more comes back by itself.

    "Nobody" includes slices, views and numpy arrays made of a vector, which share its memory.
    Safe to use from several threads.
    """

    def __init__(self, most_free_bytes: int = MOST_FREE_BYTES) -> None:
        self._most_free_bytes = most_free_bytes
        self._free: defaultdict[int, list[mmap.mmap]] = defaultdict(list)

    @property
    def free_bytes(self) -> int:
        """Bytes that wait for their next use."""
        return sum(size * len(waiting) for size, waiting in list(self._free.items()))

    def take(self, size: int) -> Tensor:
        """A vector (size, float32) of values that mean nothing."""
        if size < SMALL:
            return torch.empty(size)
        num_bytes = _rounded(size * BYTES_PER_VALUE)
        try:
            memory = self._free[num_bytes].pop()
        except IndexError:
            memory = mmap.mmap(-1, num_bytes, flags=PRIVATE)
            if HUGE_PAGES is not None:
                memory.madvise(HUGE_PAGES)
        # Torch keeps this very array alive as long as anything shares the tensor's memory.
        lease = np.frombuffer(memory, np.float32)
        weakref.finalize(lease, self._take_back, memory, num_bytes).atexit = False
        return torch.from_numpy(lease[:size])

    def _take_back(self, memory: mmap.mmap, num_bytes: int) -> None:
        if self.free_bytes + num_bytes <= self._most_free_bytes:
            self._free[num_bytes].append(memory)


def _rounded(num_bytes: int) -> int:
    """Up to one of eight sizes in each power of two: a page that nobody touches costs nothing.

    No two compressed bodies are of one length: kept by their own, they would fill the pool and
    never be used again.
    """
    step = 1 << (num_bytes.bit_length() - 4)
    return -(-num_bytes // step) * step


POOL = VectorPool()
"""The process's own, as torch's allocator is."""
