"""A real file system of a few MiB, which can be filled, emptied and made read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BLOCK = 64 * 1024


class SmallDisk:
    """A tmpfs. Mounting takes root, which CI and the containers of this project run as.

    Nothing smaller would do: an RLIMIT_FSIZE holds for one file, and gives another error.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, left_bytes: int = 0) -> None:
        """Take all room but `left_bytes`."""
        with self._ballast.open("ab", buffering=0) as ballast, suppress(OSError):
            while self.free_bytes > left_bytes:
                ballast.write(bytes(min(BLOCK, self.free_bytes - left_bytes)))

    def make_room(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink()

    @property
    def free_bytes(self) -> int:
        """For files."""
        told = os.statvfs(self.folder)
        return told.f_bavail * told.f_bsize

    def read_only(self, *, yes: bool = True) -> None:
        """As a kernel does that finds its disk failing; fails while a file is open for writing."""
        mount("-o", f"remount,{'ro' if yes else 'rw'}", str(self.folder))


@contextmanager
def small_disk(folder: Path, num_bytes: int) -> Iterator[SmallDisk]:
    """Mounted on `folder`."""
    folder.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={num_bytes}", "hocket-test", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607 -- the system's


def mount(*arguments: str) -> None:
    """Mount, or CalledProcessError."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)  # noqa: S607 -- likewise
