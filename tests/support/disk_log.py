"""In which order files are synced and renamed, from which follows what a power cut leaves."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest

Entry = tuple[str, int, int]
"""What was done, the inode to which, and the bytes that it held by then (of a folder: 0)."""


@dataclass
class DiskLog:
    """What the system was asked to do, as it does it."""

    entries: list[Entry] = field(default_factory=list)

    def put(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Into the way of every sync and renaming from here on."""
        sync, rename = os.fsync, os.replace

        def fsync(descriptor: int) -> None:
            self.entries.append(_entry("synced", os.fstat(descriptor)))
            sync(descriptor)

        def replace(source: Path, target: Path) -> None:
            self.entries.append(_entry("renamed", source.stat()))
            rename(source, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", replace)


def made_durable(file: Path) -> list[Entry]:
    """What must have been done to it: only what is synced is renamed, and the name is, last."""
    return [synced(file), _entry("renamed", file.stat()), synced(file.parent)]


def synced(path: Path) -> Entry:
    """All that it now holds."""
    return _entry("synced", path.stat())


def _entry(done: str, to: os.stat_result) -> Entry:
    return done, to.st_ino, to.st_size if stat.S_ISREG(to.st_mode) else 0
