"""What the disk can write and sync: the limit of everything durable."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hocket.errors import StorageFailed


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes, and the seconds that they took."""

    num_bytes: int
    seconds: float

    @property
    def bytes_per_s(self) -> float:
        """0 where nothing was measured."""
        return self.num_bytes / self.seconds if self.seconds else 0.0

    def __add__(self, other: Rate) -> Rate:
        """Both, one after the other."""
        return Rate(self.num_bytes + other.num_bytes, self.seconds + other.seconds)


class Disk:
    """Appends to files of a folder, each of which stays until the end.

    What a file leaves behind, above all pages of the system's cache, serves the next one faster
    than it was found the first time (here 1.6 GB/s and 0.35): neither the limit nor the journal,
    whose files stay, is to have that.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def append(self, piece_bytes: int, pieces: int, group: int = 1) -> Rate:
        """Write pieces to a new file, with one fdatasync for each `group`. Raises StorageFailed."""
        with self._failing():
            file = self._new()
            piece = memoryview(os.urandom(piece_bytes))
            return _timed(file, piece, pieces, group)

    def append_directly(self, piece_bytes: int, pieces: int) -> Rate:
        """As `append`, past the system's cache, in whole pages: no rate where it cannot be done.

        Raises StorageFailed.
        """
        with self._failing():
            file = self._new()
            pages = mmap.mmap(-1, -(-piece_bytes // mmap.PAGESIZE) * mmap.PAGESIZE)
            pages.write(os.urandom(piece_bytes))
            direct = getattr(os, "O_DIRECT", 0)  # Linux only
            if not direct:
                return Rate(0, 0.0)
            try:
                fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | direct)
                return _timed(file, memoryview(pages), pieces, 1)
            except OSError as cause:
                if cause.errno != errno.EINVAL:  # no such way here, or larger pages than ours
                    raise
                return Rate(0, 0.0)

    def _new(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 -- it stays
        return self._files.enter_context(file).fileno()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            raise StorageFailed(f"cannot write to {self._folder}: {cause.strerror}") from cause


def _timed(file: int, piece: memoryview, pieces: int, group: int) -> Rate:
    began_s = time.perf_counter()
    for number in range(1, pieces + 1):
        rest = piece
        while rest:
            rest = rest[os.write(file, rest) :]
        if number % group == 0 or number == pieces:
            os.fdatasync(file)
    return Rate(len(piece) * pieces, time.perf_counter() - began_s)
