"""Reading a history back, with every check: it may have been damaged since it was written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hocket.core.payload import Payload
from hocket.core.plain import Values, count, object_of, text
from hocket.errors import CorruptState, NotFound
from hocket.sim.history.entries import (
    BODIES_FILE,
    ENTRIES_FILE,
    FORMAT,
    Beginning,
    Body,
    Entry,
    body_of,
    entry_of,
)


@dataclass(frozen=True, slots=True)
class Found:
    """An entry, and the number of its line."""

    line: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class History:
    """A folder that was found to hold a history; its entries are read when they are asked for."""

    folder: Path
    beginning: Beginning

    @property
    def file(self) -> Path:
        """Of the entries."""
        return self.folder / ENTRIES_FILE

    def entries(self, *, bodies: bool = True) -> Iterator[Found]:
        """All entries in order; updates without what they hold where `bodies` is false.

        Raises CorruptState, naming file and line, for whatever is damaged or missing.
        """
        with ExitStack() as stack:
            stored, size = None, None
            if bodies:
                stored = stack.enter_context(_opened(self.folder / BODIES_FILE))
                size = stored.seek(0, 2)
            yield from _Pass(self.file, stored, size).entries()

    def lasts_s(self) -> float:
        """When its last entry happened, since it began; 0 without any. Raises CorruptState."""
        return max((found.entry.at_s for found in self.entries(bodies=False)), default=0.0)

    def corrupt(self, line: int, problem: str) -> CorruptState:
        """The error that says where the history contradicts itself."""
        return _corrupt(self.file, line, problem)


def read_history(folder: Path) -> History:
    """The history in a folder, by its first line.

    Raises NotFound where there is none, and CorruptState for a first line that is damaged.
    """
    file = folder / ENTRIES_FILE
    if not file.is_file():
        raise NotFound(
            f"there is no history in {folder}: record one by `hocket simulate --record`, or write "
            "an aggregator's by `hocket export --history FOLDER`"
        )
    try:
        with _opened(file) as lines:
            return History(folder, _beginning(object_of(lines.readline())))
    except OSError as error:
        raise _corrupt(file, 1, f"it cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise _corrupt(file, 1, str(error)) from error


def _beginning(first: Values) -> Beginning:
    if text(first, "format") != FORMAT:
        raise ValueError(f"format is not {FORMAT!r}")
    return Beginning(text(first, "task"), text(first, "manifest"), text(first, "digest"))


class _Pass:
    """One reading from the first entry to the last."""

    def __init__(self, file: Path, bodies: BinaryIO | None, body_bytes: int | None) -> None:
        self._file, self._bodies, self._body_bytes = file, bodies, body_bytes
        self._entries = self._bytes = 0
        self._at_s = 0.0

    def entries(self) -> Iterator[Found]:
        with _opened(self._file) as lines:
            number = 0
            try:
                for number, line in enumerate(lines, 1):
                    if number == 1:
                        continue  # read_history has read it
                    stored = object_of(line)
                    if stored.get("kind") == "end":
                        self._end(stored, lines)
                        return
                    yield Found(number, self._entry(stored))
            except ValueError as error:
                raise _corrupt(self._file, number, str(error)) from error
            except OSError as error:
                why = f"it cannot be read ({error.strerror})"
                raise _corrupt(self._file, number, why) from error
        raise _corrupt(self._file, number + 1, "the line that says how much there is is missing")

    def _entry(self, stored: Values) -> Entry:
        body = body_of(stored)
        entry = entry_of(stored, None if body is None else self._payload(body))
        if not entry.at_s >= self._at_s:
            raise ValueError(f"at_s is {entry.at_s:g}, before the entry that comes first")
        self._at_s = entry.at_s
        self._entries += 1
        return entry

    def _payload(self, body: Body) -> Payload | None:
        if body.offset != self._bytes:
            raise ValueError(f"a body begins at byte {body.offset}, where {self._bytes} is next")
        self._bytes += body.header.wire_bytes
        if self._bodies is None or self._body_bytes is None:
            return None
        if self._bytes > self._body_bytes:
            raise ValueError(
                f"a body ends at byte {self._bytes} of {BODIES_FILE}, which has {self._body_bytes}"
            )
        self._bodies.seek(body.offset)
        return Payload(body.header, bytearray(self._bodies.read(body.header.wire_bytes)))

    def _end(self, stored: Values, lines: BinaryIO) -> None:
        told = count(stored, "entries"), count(stored, "body_bytes")
        if told != (self._entries, self._bytes):
            raise ValueError(
                f"it says {told[0]} entries and {told[1]} bytes of bodies, but there are "
                f"{self._entries} and {self._bytes}"
            )
        if lines.read(1):
            raise ValueError("more lines follow the one that says how much there is")


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise _corrupt(file, 0, f"it cannot be read ({error.strerror})") from error


def _corrupt(file: Path, line: int, problem: str) -> CorruptState:
    return CorruptState(
        f"{file}, line {line}: {problem}; record it again, or take it from a copy",
        file=str(file),
        line=str(line),
    )
