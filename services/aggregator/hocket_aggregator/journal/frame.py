"""How segments and records lie on disk. All numbers are little-endian.

A segment begins with 40 bytes: magic, its number, its mark (8 random bytes), the length of the
segment before it (0 for none), and xxh3-64 of those 32 bytes. Records follow without gaps, each a
fixed header, a head (compact JSON) and data (a piece's bytes, else nothing):

    mark       8 bytes  the segment's own, so that nothing a device sends can pass for a record
    number     8 bytes  1 for the segment's first record, then rising by one
    data hash  8 bytes  xxh3-64 of the data
    head len   4 bytes
    data len   4 bytes
    kind       1 byte, then 7 zero bytes
    hash       8 bytes  xxh3-64 of the 40 bytes above and the head
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import xxhash

from hocket.core.ids import UpdateId
from hocket.core.update import Dropped
from hocket_aggregator.journal.entries import Discarded, Entry, Opened, Piece, Settled
from hocket_aggregator.journal.heads import Kind, entry_of, head_of

MAGIC = b"HKTJRNL\x01"
MARK_BYTES = 8
MAX_HEAD_BYTES = 4 * 1024 * 1024
MAX_DATA_BYTES = 1024 * 1024

_BEGINNING = struct.Struct("<8sQ8sQ")
_HEADER = struct.Struct("<8sQQIIB7x")
_HASH = struct.Struct("<Q")
BEGINNING_BYTES = _BEGINNING.size + _HASH.size
HEADER_BYTES = _HEADER.size + _HASH.size


@dataclass(frozen=True, slots=True)
class Beginning:
    """A segment's first bytes."""

    segment: int
    mark: bytes
    bytes_before: int  # length of the segment before it

    def encode(self) -> bytes:
        """As on disk."""
        raw = _BEGINNING.pack(MAGIC, self.segment, self.mark, self.bytes_before)
        return raw + _HASH.pack(xxhash.xxh3_64_intdigest(raw))


def beginning_of(raw: bytes, segment: int) -> Beginning | None:
    """The beginning of that segment, or None if it does not check out."""
    if len(raw) < BEGINNING_BYTES:
        return None
    body, (digest,) = raw[: _BEGINNING.size], _HASH.unpack_from(raw, _BEGINNING.size)
    magic, number, mark, before = _BEGINNING.unpack(body)
    sound = magic == MAGIC and number == segment and digest == xxhash.xxh3_64_intdigest(body)
    return Beginning(number, mark, before) if sound else None


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry ready to be written, but for its place."""

    kind: Kind
    head: bytes
    ticket: int
    update_id: UpdateId | None = None  # of the update that it is about
    needs_body: bool = False  # worth nothing unless the whole body was written before
    data: memoryview = field(default_factory=lambda: memoryview(b""))
    checksum: int | None = None

    @property
    def num_bytes(self) -> int:
        """On disk."""
        return HEADER_BYTES + len(self.head) + len(self.data)

    @property
    def may_be_refused(self) -> bool:
        """Whether it is part of a body, which its device can push again later."""
        return self.kind in {Kind.OPENED, Kind.PIECE}

    def prefix(self, mark: bytes, number: int) -> bytes:
        """Header and head; the data follows."""
        digest = self.checksum
        if digest is None:
            digest = xxhash.xxh3_64_intdigest(self.data)
        header = _HEADER.pack(mark, number, digest, len(self.head), len(self.data), self.kind)
        return header + _HASH.pack(xxhash.xxh3_64_intdigest(header + self.head)) + self.head


def draft_of(entry: Entry, ticket: int) -> Draft:
    """Raises ValueError for an entry that is larger than a record may be."""
    kind, head = head_of(entry)
    if len(head) > MAX_HEAD_BYTES:
        raise ValueError(f"a head of {len(head)} bytes: a record holds {MAX_HEAD_BYTES}")
    match entry:
        case Piece(update_id, _, data, checksum):
            view = memoryview(data).cast("B")
            if len(view) > MAX_DATA_BYTES:
                raise ValueError(f"a piece of {len(view)} bytes: a record holds {MAX_DATA_BYTES}")
            return Draft(kind, head, ticket, update_id, data=view, checksum=checksum)
        case Settled(header, outcome):
            used = not isinstance(outcome, Dropped)
            return Draft(kind, head, ticket, header.update_id, needs_body=used)
        case Opened(header):
            return Draft(kind, head, ticket, header.update_id)
        case Discarded(update_id):
            return Draft(kind, head, ticket, update_id)
    return Draft(kind, head, ticket)


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """A record's fixed header, bounds checked, hashes not."""

    number: int
    kind: Kind
    head_bytes: int
    data_bytes: int
    data_hash: int
    raw: bytes

    def owns(self, head: bytes, data: bytes) -> bool:
        """Whether these are the record's head and data, and both hashes are right."""
        if len(head) != self.head_bytes or len(data) != self.data_bytes:
            return False
        (digest,) = _HASH.unpack_from(self.raw, _HEADER.size)
        if digest != xxhash.xxh3_64_intdigest(self.raw[: _HEADER.size] + head):
            return False
        return self.data_hash == xxhash.xxh3_64_intdigest(data)


def frame_header_of(raw: bytes, mark: bytes) -> FrameHeader | None:
    """A header that could be one of this segment's, or None. Nothing it claims exceeds a limit."""
    if len(raw) < HEADER_BYTES or not raw.startswith(mark):
        return None
    _, number, data_hash, head_bytes, data_bytes, kind = _HEADER.unpack_from(raw)
    most = MAX_DATA_BYTES if kind == Kind.PIECE else 0
    if kind not in set(Kind) or head_bytes > MAX_HEAD_BYTES or data_bytes > most:
        return None
    return FrameHeader(number, Kind(kind), head_bytes, data_bytes, data_hash, raw)


@dataclass(frozen=True, slots=True)
class Frame:
    """A sound record."""

    header: FrameHeader
    head: bytes
    data: bytes

    @property
    def number(self) -> int:
        """Its place among the segment's records, from 1."""
        return self.header.number

    @property
    def num_bytes(self) -> int:
        """On disk."""
        return HEADER_BYTES + len(self.head) + len(self.data)

    def entry(self) -> Entry:
        """What it holds; raises ValueError for what no entry has."""
        return entry_of(self.header.kind, self.head, self.data, self.header.data_hash)
