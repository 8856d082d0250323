"""Records laid out in whole pages, as a file takes them that is written past the system's cache.

The system then copies nothing: a piece whose bytes begin on a page in memory begins on one in the
file, too, and the disk fetches them from where they lie. All else is gathered here.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PAGE_BYTES = 4096  # no disk asks for more
WORTH_BYTES = 64 * 1024  # a page of padding for fewer would be much


@dataclass(frozen=True, slots=True)
class Part:
    """A record's bytes in the file: `prefix`, zeros up to where `data` begins, and `data`."""

    prefix: bytes
    padding: int
    data: memoryview
    in_place: bool
    """Written from where it lies: both there and in the file it begins on a page."""

    @property
    def num_bytes(self) -> int:
        """In the file."""
        return len(self.prefix) + self.padding + len(self.data)


@dataclass(frozen=True, slots=True)
class Laid:
    """What to write, from `start` on: whole pages, valid until the next is laid out."""

    start: int
    buffers: list[memoryview]


def lies_on_page(data: memoryview) -> bool:
    """Whether it is large, and begins on a page of memory."""
    if len(data) < WORTH_BYTES:
        return False
    address: int = np.frombuffer(data, np.uint8).ctypes.data
    return address % PAGE_BYTES == 0


def padding_to_page(offset: int) -> int:
    """Bytes from `offset` to the next page, 0 if one begins there."""
    return -offset % PAGE_BYTES


class Pages:
    """Memory of one's own, on pages, and in it the file's last page as far as it is written."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, 256 * PAGE_BYTES))
        self._tail = b""

    def hold(self, tail: bytes) -> None:
        """The file's last page holds these bytes so far, fewer than a page."""
        self._tail = tail

    def lay_out(self, end: int, parts: Sequence[Part]) -> Laid:
        """The pages from the one that `end` lies in to that of the last record's last byte."""
        self._make_room(sum(_gathered(part) for part in parts))
        start = end - end % PAGE_BYTES
        buffers: list[memoryview] = []
        at = first = 0  # in memory; what is gathered from `first` on is not in a buffer yet
        at = self._gather(at, self._tail)
        for part in parts:
            at = self._gather(at, part.prefix)
            at = self._gather(at, bytes(part.padding))
            whole = len(part.data) // PAGE_BYTES * PAGE_BYTES if part.in_place else 0
            if whole:
                buffers += [self._memory[first:at], part.data[:whole]]
                first = at
            at = self._gather(at, part.data[whole:])
        self._tail = bytes(self._memory[at - at % PAGE_BYTES : at])
        at = self._gather(at, bytes(padding_to_page(at)))
        buffers.append(self._memory[first:at])
        return Laid(start, [buffer for buffer in buffers if len(buffer)])

    def page(self) -> memoryview:
        """A page to read into; what was laid out is lost."""
        return self._memory[:PAGE_BYTES]

    def _gather(self, at: int, data: bytes | memoryview) -> int:
        after = at + len(data)
        self._memory[at:after] = data
        return after

    def _make_room(self, num_bytes: int) -> None:
        needed = num_bytes + 2 * PAGE_BYTES  # the tail before, the padding after
        if needed > len(self._memory):
            self._memory = memoryview(mmap.mmap(-1, needed + padding_to_page(needed)))


def _gathered(part: Part) -> int:
    """Bytes of it that are copied."""
    data = len(part.data) % PAGE_BYTES if part.in_place else len(part.data)
    return len(part.prefix) + part.padding + data
