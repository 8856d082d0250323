"""What goes into a journal comes out: every kind, in order, and nothing else, ever."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hocket_aggregator.journal.entries import (
    Concluded,
    Discarded,
    Entry,
    Held,
    Opened,
    Piece,
    Settled,
)
from hocket_aggregator.journal.frame import (
    HEADER_BYTES,
    MAX_DATA_BYTES,
    MAX_HEAD_BYTES,
    draft_of,
    frame_header_of,
)
from hocket_aggregator.journal.heads import Kind, entry_of, head_of
from hocket_aggregator.journal.reader import cut_torn_tail, read_entries
from hypothesis import given, settings
from hypothesis import strategies as st
from support.journals import ONE_OF_EACH, entries_in, held, piece, settled, write_segment
from support.words import (
    counts,
    device_ids,
    not_negative,
    outcomes,
    payload_headers,
    update_headers,
    update_ids,
    versions,
    words,
)

from hocket.core.ids import UpdateId
from hocket.errors import CorruptState
from hocket.rpc.chunks import checksum

pieces = st.builds(
    lambda i, at, data: Piece(i, at, data, checksum(data)),
    update_ids,
    counts,
    st.binary(max_size=300),
)
entries: st.SearchStrategy[Entry] = (
    st.builds(Opened, update_headers, payload_headers)
    | pieces
    | st.builds(Settled, update_headers, outcomes, words, counts, not_negative, words)
    | st.builds(Discarded, update_ids)
    | st.builds(Held, device_ids, versions)
    | st.builds(Concluded, words)
)


def again(entry: Entry) -> Entry:
    kind, head = head_of(entry)
    data = bytes(entry.data) if isinstance(entry, Piece) else b""
    return entry_of(kind, head, data, checksum(data))


@given(entries)
@settings(max_examples=100, deadline=None)
def test_every_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert again(entry) == entry


async def test_a_segment_holds_every_kind_in_the_order_of_appending(tmp_path: Path) -> None:
    await write_segment(tmp_path, ONE_OF_EACH)
    assert entries_in(tmp_path) == ONE_OF_EACH


async def test_thousands_of_entries_keep_their_order(tmp_path: Path) -> None:
    many = [held(number) for number in range(3000)]
    await write_segment(tmp_path, many)
    assert entries_in(tmp_path) == many


async def test_what_is_found_says_where_it_lies(tmp_path: Path) -> None:
    file = await write_segment(tmp_path, ONE_OF_EACH)
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
    mark = b"12345678"
    for entry, head_bytes, data_bytes in (
        (held(1), MAX_HEAD_BYTES + 1, 0),
        (held(1), 2**32 - 1, 0),
        (held(1), 10, 1),
        (piece("u"), 10, MAX_DATA_BYTES + 1),
    ):
        raw = bytearray(draft_of(entry, 0).prefix(mark, 1)[:HEADER_BYTES])
        assert frame_header_of(bytes(raw), mark) is not None
        raw[24:28], raw[28:32] = head_bytes.to_bytes(4, "little"), data_bytes.to_bytes(4, "little")
        assert frame_header_of(bytes(raw), mark) is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@st.composite
def changed_heads(draw: st.DrawFn) -> tuple[Kind, bytes]:
    """The head of some entry with one value, at any depth, put in another's place or taken out."""
    kind, head = head_of(draw(entries))
    stored = json.loads(head)
    place: Any = stored
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and draw(st.booleans()):
            place = place[key]
            continue
        if draw(st.booleans()):
            del place[key]
        else:
            place[key] = draw(anything)
        break
    return kind, json.dumps(stored).encode()


@given(changed_heads() | st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=200)))
@settings(max_examples=1000, deadline=None)
def test_any_head_is_a_value_or_an_error(changed: tuple[Kind, bytes]) -> None:
    try:
        entry = entry_of(*changed, b"", checksum(b""))
    except ValueError:
        return
    assert again(entry) == entry


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


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes, list[Entry]]]:
    folder = tmp_path_factory.mktemp("journal")
    held_there = [*ONE_OF_EACH, piece("w", b"\0" * 60), settled("w")]
    file = asyncio.run(write_segment(folder, held_there))
    yield file, file.read_bytes(), held_there
    shutil.rmtree(folder)


@given(st.data())
@settings(max_examples=800, deadline=None)
def test_whatever_happens_to_a_file_only_what_was_written_comes_back(
    sound: tuple[Path, bytes, list[Entry]], data: st.DataObject
) -> None:
    file, whole, written = sound
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        length = data.draw(st.sampled_from([0, 1, 4, 40, len(changed)]))
        changed[start : start + length] = data.draw(
            st.binary(max_size=60) | st.just(whole[40:200]) | st.just(b"\0" * length)
        )
    file.write_bytes(changed)
    found, damage = what_is_read(file)
    if damage is not None:
        assert damage.details["file"] == str(file)
        assert 0 <= int(damage.details["offset"]) <= len(changed)
        return
    assert found == written[: len(found)]
    cut_torn_tail(file.parent)
    assert entries_in(file.parent) == found
    assert cut_torn_tail(file.parent) == 0


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_a_file_of_random_bytes_holds_nothing(
    sound: tuple[Path, bytes, list[Entry]], raw: bytes
) -> None:
    file, _, _ = sound
    file.write_bytes(raw)
    found, damage = what_is_read(file)
    assert found == []
    assert damage is None or damage.details == {"file": str(file), "offset": "0"}


def what_is_read(file: Path) -> tuple[list[Entry], CorruptState | None]:
    try:
        return entries_in(file.parent), None
    except CorruptState as damage:
        return [], damage
