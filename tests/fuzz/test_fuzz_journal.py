"""Whatever becomes of a journal, nothing comes out of it that did not go in.

The reader is given `fuzzing.INPUTS` damaged segments, and as many sealed around damaged heads.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hocket_aggregator.journal.entries import (
    Closed,
    Concluded,
    Discarded,
    Entry,
    Held,
    Opened,
    Piece,
    Settled,
)
from hocket_aggregator.journal.frame import BEGINNING_BYTES, Beginning, Place, draft_of
from hocket_aggregator.journal.heads import Kind, entry_of, head_of
from hocket_aggregator.journal.reader import cut_torn_tail
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fuzzing import FIXED, scripts, tampered
from support.journals import (
    ONE_OF_EACH,
    entries_in,
    piece,
    settled,
    write_segment,
)
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
    | st.builds(Closed, versions, words, not_negative)
)


def again(entry: Entry) -> Entry:
    kind, head = head_of(entry)
    data = bytes(entry.data) if isinstance(entry, Piece) else b""
    return entry_of(kind, head, data, checksum(data))


@given(entries)
@settings(max_examples=100, deadline=None)
def test_every_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert again(entry) == entry


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


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes, list[Entry]]]:
    folder = tmp_path_factory.mktemp("journal")
    held_there = [*ONE_OF_EACH, piece("w", b"\0" * 60), settled("w")]
    file = asyncio.run(write_segment(folder, held_there))
    yield file, file.read_bytes(), held_there
    shutil.rmtree(folder)


@given(st.data())
@settings(max_examples=300, deadline=None)
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
    found = judged(file, bytes(changed), written)
    if found is None:
        return
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


@FIXED
@given(scripts)
def test_a_tampered_segment_holds_what_was_written_first_or_is_damaged(
    sound: tuple[Path, bytes, list[Entry]], script: bytes
) -> None:
    file, whole, written = sound
    judged(file, tampered(whole, script), written)


def test_a_sealed_record_is_an_entry_or_damage_at_its_offset(
    sound: tuple[Path, bytes, list[Entry]],
) -> None:
    """The checksums are right, so that all that they cover is looked at."""
    file, first = sound[0], settled("first")
    sensible = 0

    @FIXED
    @given(scripts)
    def decode(script: bytes) -> None:
        nonlocal sensible
        file.write_bytes(b"".join(sealed_segment(first, script)))
        found, damage = what_is_read(file)
        if damage is not None:
            offset = BEGINNING_BYTES + draft_of(first, 0).num_bytes
            assert damage.details == {"file": str(file), "offset": str(offset)}
            return
        before, entry = found
        assert before == first
        assert again(entry) == entry
        sensible += 1

    decode()
    assert sensible > 0


def sealed_segment(first: Entry, script: bytes) -> Iterator[bytes]:
    """A sound record, and one of some kind whose head was tampered with and hashed anew."""
    mark = b"the mark"
    yield Beginning(1, mark, 0).encode()
    yield draft_of(first, 0).prefix(Place(mark, 1, BEGINNING_BYTES, 0))
    draft = draft_of(ONE_OF_EACH[script[-1] % len(ONE_OF_EACH)], 0)
    yield replace(draft, head=tampered(draft.head, script)).prefix(Place(mark, 2, 0, 0))
    yield bytes(draft.data)


def judged(file: Path, segment: bytes, written: list[Entry]) -> list[Entry] | None:
    """What is read of it, which is the first of what was written; None for damage within it."""
    file.write_bytes(segment)
    found, damage = what_is_read(file)
    if damage is not None:
        assert damage.details["file"] == str(file)
        assert 0 <= int(damage.details["offset"]) <= len(segment)
        return None
    assert found == written[: len(found)]
    return found


def what_is_read(file: Path) -> tuple[list[Entry], CorruptState | None]:
    try:
        return entries_in(file.parent), None
    except CorruptState as damage:
        return [], damage
