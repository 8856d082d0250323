"""What goes into a journal comes out: every kind, in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hocket_aggregator.journal.entries import (
    Concluded,
    Entry,
    Piece,
)
from hocket_aggregator.journal.frame import (
    HEADER_BYTES,
    MAX_DATA_BYTES,
    MAX_HEAD_BYTES,
    Place,
    draft_of,
    frame_header_of,
)
from hocket_aggregator.journal.heads import Kind, entry_of, head_of
from hocket_aggregator.journal.reader import read_entries
from support.journals import (
    ONE_OF_EACH,
    entries_in,
    held,
    killed_segment,
    piece,
    write_segment,
)

from hocket.core.ids import UpdateId
from hocket.rpc.chunks import checksum


async def test_a_segment_holds_every_kind_in_the_order_of_appending(tmp_path: Path) -> None:
    await write_segment(tmp_path, ONE_OF_EACH)
    assert entries_in(tmp_path) == ONE_OF_EACH


async def test_thousands_of_entries_keep_their_order(tmp_path: Path) -> None:
    many = [held(number) for number in range(3000)]
    await write_segment(tmp_path, many)
    assert entries_in(tmp_path) == many


async def test_what_is_found_says_where_it_lies(tmp_path: Path) -> None:
    file = await killed_segment(tmp_path, ONE_OF_EACH)
    found = list(read_entries(tmp_path, 1))
    assert {each.segment for each in found} == {1}
    offsets = [each.offset for each in found]
    sizes = [draft_of(entry, 0).num_bytes for entry in ONE_OF_EACH]
    assert offsets == [40 + sum(sizes[:index]) for index in range(len(sizes))]
    assert file.stat().st_size == 40 + sum(sizes)


async def test_a_piece_without_a_checksum_gets_one(tmp_path: Path) -> None:
    await write_segment(tmp_path, [Piece(UpdateId("u"), 5, bytearray(b"abc"))])
    # xxh3-64 of "abc", from the xxHash project's own tool
    assert entries_in(tmp_path) == [Piece(UpdateId("u"), 5, b"abc", 0x78AF5F94892F3950)]


async def test_the_largest_piece_fits_and_a_larger_one_is_refused(tmp_path: Path) -> None:
    largest = piece("u", b"x" * MAX_DATA_BYTES)
    await write_segment(tmp_path, [largest])
    assert entries_in(tmp_path) == [largest]
    with pytest.raises(ValueError, match="1048577 bytes"):
        draft_of(piece("u", b"x" * (MAX_DATA_BYTES + 1)), 0)
    with pytest.raises(ValueError, match="a record holds"):
        draft_of(Concluded("x" * MAX_HEAD_BYTES), 0)


def test_no_length_beyond_the_limits_is_believed() -> None:
    place = Place(b"12345678", 1, 0, 0)
    for entry, head_bytes, data_bytes in (
        (held(1), MAX_HEAD_BYTES + 1, 0),
        (held(1), 2**32 - 1, 0),
        (held(1), 10, 1),
        (piece("u"), 10, MAX_DATA_BYTES + 1),
    ):
        raw = bytearray(draft_of(entry, 0).prefix(place)[:HEADER_BYTES])
        assert frame_header_of(bytes(raw), place.mark) is not None
        raw[24:28], raw[28:32] = head_bytes.to_bytes(4, "little"), data_bytes.to_bytes(4, "little")
        assert frame_header_of(bytes(raw), place.mark) is None


@pytest.mark.parametrize(
    "head",
    [
        b"[" * 100_000,
        b'{"version":' + b"9" * 10_000 + b"}",
        b'{"reason":NaN}',
        b"\xff",
        b"[]",
        b"7",
    ],
)
def test_hostile_json_is_an_error_of_one_kind(head: bytes) -> None:
    for kind in Kind:
        with pytest.raises(ValueError):  # noqa: PT011 -- its texts are json's own
            entry_of(kind, head, b"", 0)


@pytest.mark.parametrize("entry", ONE_OF_EACH)
def test_every_kind_comes_back_as_it_was(entry: Entry) -> None:
    kind, head = head_of(entry)
    data = bytes(entry.data) if isinstance(entry, Piece) else b""
    assert entry_of(kind, head, data, checksum(data)) == entry
