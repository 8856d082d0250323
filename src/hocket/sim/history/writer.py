"""Writing a history: a line for each entry, and the bodies of updates one after the other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from hocket.core.plain import compact_json
from hocket.errors import HocketError
from hocket.sim.history.entries import (
    BODIES_FILE,
    ENTRIES_FILE,
    FORMAT,
    Beginning,
    Entry,
    Settled,
    entry_values,
)


class HistoryWriter:
    """A context manager around what is written into `folder`, which its owner keeps or removes.

    The last line says how much there is: without it, a history does not count as whole. It is
    written when the block ends well. Everything here raises OSError.
    """

    def __init__(self, folder: Path, beginning: Beginning) -> None:
        self.entries = 0
        self._bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opening:
            path = folder / ENTRIES_FILE
            self._lines = opening.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            self._bodies = opening.enter_context((folder / BODIES_FILE).open("wb"))
            self._open = opening.pop_all()
        first = {"task": beginning.task, "manifest": beginning.manifest, "digest": beginning.digest}
        self._write({"format": FORMAT, **first})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if kind is None:
                self._write({"kind": "end", "entries": self.entries, "body_bytes": self._bytes})

    def add(self, entry: Entry) -> None:
        """Take the next entry. Raises HocketError for a number that is not finite."""
        try:
            self._write(entry_values(entry, self._bytes))
        except ValueError as error:
            raise HocketError(
                f"a history cannot hold the {type(entry).__name__.lower()} entry at "
                f"{entry.at_s:g} s: {error}; lower training.learning_rate, or do not record"
            ) from error
        self.entries += 1
        if isinstance(entry, Settled) and entry.payload is not None:
            self._bodies.write(entry.payload.body)
            self._bytes += entry.payload.header.wire_bytes

    def _write(self, line: dict[str, object]) -> None:
        self._lines.write(compact_json(line) + "\n")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes its name when the block ends well, and else is no more.

    Raises HocketError where the name is taken or nothing can be written.
    """
    if folder.exists():
        raise HocketError(f"{folder} is there already; name another folder, or remove it")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        partial.rename(folder)
    except OSError as cause:
        raise HocketError(f"{folder} cannot be written: {cause.strerror or cause}") from cause
    finally:
        shutil.rmtree(partial, ignore_errors=True)
