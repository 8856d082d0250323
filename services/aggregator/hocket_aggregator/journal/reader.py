"""Reading a journal: what is sound, where a torn tail begins, and what is damage.

A record that does not check out is a torn tail if it is in the last segment and no sound record
that follows it knows that it was on disk: the process, or the machine with its disk's cache, ended
while it was written. What lies behind it was never acknowledged, and goes as well. Anywhere else,
or where a later record knows better, it is damage.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hocket.errors import CorruptState, StartupError
from hocket_aggregator.journal.entries import Entry
from hocket_aggregator.journal.frame import (
    BEGINNING_BYTES,
    HEADER_BYTES,
    Beginning,
    Frame,
    beginning_of,
    frame_header_of,
    is_foreign,
)
from hocket_aggregator.journal.heads import Kind

_NAME = re.compile(r"(\d{10})\.journal")
_WINDOW_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """An entry, and where its record begins."""

    segment: int
    offset: int
    entry: Entry


def file_of(folder: Path, segment: int) -> Path:
    """A segment's file."""
    return folder / f"{segment:010d}.journal"


def segments(folder: Path) -> list[int]:
    """The segments there are, oldest first; none where there is no such folder."""
    if not folder.is_dir():
        return []
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(name[1]) for name in names if name)


def read_entries(folder: Path, first_segment: int) -> Iterator[Found]:
    """Everything from `first_segment` on, in order, up to a torn tail; a writer may be at work.

    Raises CorruptState, naming file and offset, for damage and for a segment that is missing.
    """
    number, before = first_segment, None
    while _is_there(folder, number):
        with _opened(folder, number) as segment:
            _must_follow(segment, before)
            complete = yield from _entries(segment, folder)
            if not complete:
                return
            before = segment
        number += 1


def cut_torn_tail(folder: Path) -> int:
    """Cut the last segment off after its last whole record; the number of bytes that were lost.

    Room that was allocated ahead goes too, and is not counted. Call it before a Journal is opened.
    Raises CorruptState for damage, and StartupError when the file cannot be written.
    """
    known = segments(folder)
    if not known:
        return 0
    with _opened(folder, known[-1]) as segment:
        for _ in segment.frames():
            pass
        beyond = segment.sound_beyond()
        if beyond is not None:
            raise segment.contradicts(beyond)
        end, size, lost = segment.end, segment.size, segment.last_byte() - segment.end
    if end < size:
        _truncate(segment.file, end)
    return lost


def drop_before(folder: Path, segment: int) -> int:
    """Delete the segments before this one, oldest first, but never the last; how many went.

    Raises OSError.
    """
    old = [number for number in segments(folder)[:-1] if number < segment]
    for number in old:
        file_of(folder, number).unlink()
    return len(old)


class _Segment:
    """A segment being read. `end` is where the last record that was found ends."""

    def __init__(self, file: Path, number: int, descriptor: int) -> None:
        self.file = file
        self.number = number
        self.end = 0
        self._descriptor = descriptor
        self._beginning: Beginning | None = None
        self._records = 0

    @property
    def beginning(self) -> Beginning | None:
        """What it begins with, once that is there. Raises CorruptState for another format."""
        if self._beginning is None:
            raw = self._read(0, BEGINNING_BYTES)
            if is_foreign(raw):
                raise CorruptState(
                    f"{self.file} has a format that this Hocket does not read; start the version "
                    "that wrote it, or begin in another folder",
                    file=str(self.file),
                    offset="0",
                )
            self._beginning = beginning_of(raw, self.number)
            self.end = 0 if self._beginning is None else BEGINNING_BYTES
        return self._beginning

    @property
    def size(self) -> int:
        """Of the file, now."""
        return os.fstat(self._descriptor).st_size

    def frames(self) -> Iterator[tuple[int, Frame]]:
        """Sound records with their offsets, from `end` on, until there is none."""
        while (frame := self.next_frame()) is not None:
            offset = self.end
            self.end += frame.num_bytes
            self._records += 1
            yield offset, frame

    def next_frame(self) -> Frame | None:
        """The record at `end`, if it is sound and the next in number."""
        if self.beginning is None:
            return None
        frame = self._frame(self.end, self.beginning.mark)
        return frame if frame is not None and frame.number == self._records + 1 else None

    def sound_beyond(self) -> int | None:
        """The offset of a sound record that knows that the one at `end` was on disk."""
        if self.beginning is None:
            # Nothing is written to a segment before its beginning is on disk.
            return BEGINNING_BYTES if self.last_byte() > BEGINNING_BYTES else None
        mark = self.beginning.mark
        for start, window in self._windows(overlap=len(mark) - 1):
            at = window.find(mark)
            while at >= 0:
                frame = self._frame(start + at, mark)
                if frame is not None and frame.header.synced > self._records:
                    return start + at
                at = window.find(mark, at + 1)
        return None

    def last_byte(self) -> int:
        """The offset after the last byte, from `end` on, that is not zero; `end` if all are."""
        last = self.end
        for start, window in self._windows(overlap=0):
            kept = len(window.rstrip(b"\0"))
            last = start + kept if kept else last
        return last

    def contradicts(self, beyond: int) -> CorruptState:
        """The record at `end` is unsound, and no torn tail."""
        return _damage(self.file, self.end, f"no sound record, but a later one at byte {beyond}")

    def _frame(self, offset: int, mark: bytes) -> Frame | None:
        header = frame_header_of(self._read(offset, HEADER_BYTES), mark)
        if header is None:
            return None
        head_at = offset + HEADER_BYTES
        head = self._read(head_at, header.head_bytes)
        padding = self._read(head_at + header.head_bytes, header.padding)
        data = self._read(offset + header.num_bytes - header.data_bytes, header.data_bytes)
        return Frame(header, head, data) if header.owns(head, padding, data) else None

    def _windows(self, overlap: int) -> Iterator[tuple[int, bytes]]:
        start = self.end
        while window := self._read(start, _WINDOW_BYTES):
            yield start, window
            if len(window) <= overlap:
                return
            start += len(window) - overlap

    def _read(self, offset: int, num_bytes: int) -> bytes:
        return os.pread(self._descriptor, num_bytes, offset) if num_bytes else b""


def _entries(segment: _Segment, folder: Path) -> Generator[Found, None, bool]:
    """A segment's entries; returns whether it has a successor, so that there is more to read."""
    while True:
        # Asked first: a segment that has a successor is never added to again.
        complete = _are_later(folder, segment.number)
        for offset, frame in segment.frames():
            if frame.header.kind is Kind.SYNCED:
                continue
            try:
                entry = frame.entry()
            except ValueError as error:
                raise _damage(segment.file, offset, f"a record that says: {error}") from error
            yield Found(segment.number, offset, entry)
        if complete:
            if segment.end < segment.size:
                raise _damage(segment.file, segment.end, "no sound record, but more segments")
            return True
        beyond = segment.sound_beyond()
        if beyond is None:
            return False
        # A live writer may have ended the record at `end`, and begun others, since we looked.
        if segment.next_frame() is None:
            raise segment.contradicts(beyond)


def _is_there(folder: Path, number: int) -> bool:
    """Whether the segment is; raises CorruptState if only later ones are."""
    file = file_of(folder, number)
    if file.exists():
        return True
    if _are_later(folder, number):
        raise _damage(file, 0, "no such file, but later segments")
    return False


def _are_later(folder: Path, number: int) -> bool:
    return any(later > number for later in segments(folder))


def _must_follow(segment: _Segment, before: _Segment | None) -> None:
    """A segment knows the length of the one before it, which may have been cut at a record."""
    if before is None or segment.beginning is None:
        return
    length = segment.beginning.bytes_before
    if length != before.end:
        raise _damage(before.file, before.end, f"the end of a file that had {length} bytes")


@contextmanager
def _opened(folder: Path, number: int) -> Iterator[_Segment]:
    file = file_of(folder, number)
    try:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            yield _Segment(file, number, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _damage(file, 0, f"a file that cannot be read ({error.strerror})") from error


def _truncate(file: Path, length: int) -> None:
    try:
        with file.open("r+b") as stored:
            stored.truncate(length)
            os.fsync(stored.fileno())
    except OSError as error:
        raise StartupError(
            f"cannot cut the torn tail off {file}: {error.strerror}; make it writable"
        ) from error


def _damage(file: Path, offset: int, found: str) -> CorruptState:
    return CorruptState(
        f"{file} is damaged: at byte {offset} there is {found}; restore the file from a copy",
        file=str(file),
        offset=str(offset),
    )
