"""How segments and records lie on disk. All numbers are little-endian.

A segment begins with 40 bytes: magic, its number, its mark (8 random bytes), the length of the
segment before it (0 for none), and xxh3-64 of those 32 bytes. Records follow without gaps, each a
fixed header, a head (compact JSON), padding (zeros) and data (a piece's bytes, else nothing):

    mark       8 bytes  the segment's own, so that nothing a device sends can pass for a record
    number     8 bytes  1 for the segment's first record, then rising by one
    data hash  8 bytes  xxh3-64 of the data
    head len   4 bytes
    data len   4 bytes
    kind       1 byte, then a zero byte
    padding    2 bytes  its length: large data begins on a page of 4096 bytes
    unsynced   4 bytes  how many records right before this one were not known to be on the disk
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
from hocket_aggregator.journal.pages import PAGE_BYTES, Part, lies_on_page, padding_to_page

MAGIC = b"HKTJRNL\x02"
MARK_BYTES = 8
MAX_HEAD_BYTES = 4 * 1024 * 1024
MAX_DATA_BYTES = 1024 * 1024
MAX_UNSYNCED = 2**32 - 1

_BEGINNING = struct.Struct("<8sQ8sQ")
_HEADER = struct.Struct("<8sQQIIBxHI")
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


def is_foreign(raw: bytes) -> bool:
    """Whether these are the first bytes of a segment in another format."""
    if len(raw) < BEGINNING_BYTES or raw.startswith(MAGIC) or not raw.startswith(MAGIC[:-1]):
        return False
    (digest,) = _HASH.unpack_from(raw, _BEGINNING.size)
    return bool(digest == xxhash.xxh3_64_intdigest(raw[: _BEGINNING.size]))


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a segment a record comes to lie."""

    mark: bytes
    number: int  # among the segment's records, from 1
    offset: int  # in the file
    synced: int  # the last of the segment's records that is known to be on disk, 0 if none is


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
        """On disk, without padding."""
        return HEADER_BYTES + len(self.head) + len(self.data)

    @property
    def most_bytes(self) -> int:
        """On disk, with all the padding there may be."""
        return self.num_bytes + (PAGE_BYTES if lies_on_page(self.data) else 0)

    @property
    def may_be_refused(self) -> bool:
        """Whether it is part of a body, which its device can push again later."""
        return self.kind in {Kind.OPENED, Kind.PIECE}

    def part(self, place: Place) -> Part:
        """Its bytes there."""
        in_place = lies_on_page(self.data)
        data_at = place.offset + HEADER_BYTES + len(self.head)
        padding = padding_to_page(data_at) if in_place else 0
        prefix = self.prefix(place, padding)
        return Part(prefix, padding, self.data, in_place)

    def prefix(self, place: Place, padding: int = 0) -> bytes:
        """Header and head; padding and data follow."""
        digest = self.checksum
        if digest is None:
            digest = xxhash.xxh3_64_intdigest(self.data)
        lengths = len(self.head), len(self.data)
        unsynced = min(place.number - 1 - place.synced, MAX_UNSYNCED)
        header = _HEADER.pack(
            place.mark, place.number, digest, *lengths, self.kind, padding, unsynced
        )
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
    padding: int
    data_bytes: int
    data_hash: int
    synced: int  # the last record that is known to have been on disk when this one was written
    raw: bytes

    @property
    def num_bytes(self) -> int:
        """The whole record's, on disk."""
        return HEADER_BYTES + self.head_bytes + self.padding + self.data_bytes

    def owns(self, head: bytes, padding: bytes, data: bytes) -> bool:
        """Whether these are the record's, and both hashes are right."""
        if len(head) != self.head_bytes or len(data) != self.data_bytes:
            return False
        if padding != bytes(self.padding):
            return False
        (digest,) = _HASH.unpack_from(self.raw, _HEADER.size)
        found = xxhash.xxh3_64(self.raw[: _HEADER.size])
        found.update(head)  # not copied: it may be large
        if digest != found.intdigest():
            return False
        return self.data_hash == xxhash.xxh3_64_intdigest(data)


def frame_header_of(raw: bytes, mark: bytes) -> FrameHeader | None:
    """A header that could be one of this segment's, or None. Nothing it claims exceeds a limit."""
    if len(raw) < HEADER_BYTES or not raw.startswith(mark):
        return None
    fields = _HEADER.unpack_from(raw)
    _, number, data_hash, head_bytes, data_bytes, kind, padding, unsynced = fields
    most, pad = (MAX_DATA_BYTES, PAGE_BYTES - 1) if kind == Kind.PIECE else (0, 0)
    if kind not in set(Kind) or head_bytes > MAX_HEAD_BYTES:
        return None
    if data_bytes > most or padding > pad or unsynced >= max(number, 1):
        return None
    synced = number - 1 - unsynced
    return FrameHeader(number, Kind(kind), head_bytes, padding, data_bytes, data_hash, synced, raw)


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
        return self.header.num_bytes

    def entry(self) -> Entry:
        """What it holds; raises ValueError for what no entry has."""
        return entry_of(self.header.kind, self.head, self.data, self.header.data_hash)
