"""What a kill would leave of a folder, at each moment of a piece of work."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Tape:
    """Copies of a folder, taken just before each change in it: what a kill there would leave."""

    def __init__(self) -> None:
        self.copies: list[Path] = []
        self._folder: Path | None = None
        self._what = ""
        sys.addaudithook(self._hear)

    @contextmanager
    def over(self, folder: Path, what: str) -> Iterator[None]:
        self.copies, self._folder, self._what = [], folder, what
        yield
        self._copy()
        self._folder = None

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        changes = event in {"os.rename", "os.remove"} or (
            event == "open" and arguments[1] not in {"r", "rb", None}
        )
        if self._folder is not None and changes:
            self._copy()

    def _copy(self) -> None:
        folder, self._folder = self._folder, None  # what the copying opens is no event
        assert folder is not None
        copied = folder.with_name(f"{folder.name}-{self._what}-{len(self.copies)}")
        shutil.copytree(folder, copied)
        self.copies.append(copied)
        self._folder = folder
