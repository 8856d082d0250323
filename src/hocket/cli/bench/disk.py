"""What the disk can write and sync: the limit of everything durable."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

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


def write_and_sync(folder: Path, piece_bytes: int, pieces: int, group: int = 1) -> Rate:
    """Append pieces to a new file of this folder, with one fdatasync for each `group`.

    Raises StorageFailed.
    """
    piece = os.urandom(piece_bytes)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            began_s = time.perf_counter()
            for number in range(1, pieces + 1):
                _write(file.fileno(), piece)
                if number % group == 0 or number == pieces:
                    os.fdatasync(file.fileno())
            return Rate(piece_bytes * pieces, time.perf_counter() - began_s)
    except OSError as cause:
        raise StorageFailed(f"cannot write to {folder}: {cause.strerror}") from cause


def _write(to: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(to, rest) :]
