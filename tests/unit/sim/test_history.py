"""Recorded histories: written, read back, and refused where they are damaged."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.journals import header
from support.words import (
    counts,
    device_ids,
    incarnations,
    outcomes,
    payload_headers,
    update_headers,
    versions,
    words,
)

from hocket.core.ids import Incarnation, Version
from hocket.core.payload import CodecId, Packing, Payload, PayloadHeader, TensorHeader
from hocket.core.update import Applied
from hocket.errors import CorruptState, HocketError, NotFound
from hocket.sim.history import (
    Beginning,
    Closed,
    Ended,
    Entry,
    Held,
    HistoryWriter,
    Joined,
    Settled,
    new_folder,
    read_history,
)

BEGINNING = Beginning("small", "00ff", "ff00")
LINES, BODIES = "entries.jsonl", "bodies.bin"
PAYLOAD = Payload(
    PayloadHeader((TensorHeader("w", (2,), CodecId.RAW, 8),), Packing.NONE, 8, None), b"12345678"
)

at = st.just(0.0)
payloads = st.none() | st.builds(
    lambda header, body: Payload(replace(header, wire_bytes=len(body)), body),
    payload_headers,
    st.binary(max_size=40),
)
any_entries = st.lists(
    st.builds(Joined, at, device_ids, incarnations, counts)
    | st.builds(Held, at, device_ids, versions)
    | st.builds(Settled, at, update_headers, payloads, outcomes, words)
    | st.builds(Closed, at, versions, words)
    | st.builds(Ended, at, words),
    max_size=6,
)


def write(folder: Path, entries: Sequence[Entry]) -> None:
    with HistoryWriter(folder, BEGINNING) as writer:
        for entry in entries:
            writer.add(entry)


def read(folder: Path) -> list[Entry]:
    return [found.entry for found in read_history(folder).entries()]


def some() -> list[Entry]:
    """A device, its base, its update, and the end."""
    name, made = header("u").device_id, Applied(Version(2), 0.5, 0)
    return [
        Joined(0.0, name, Incarnation(1), 10),
        Held(0.5, name, Version(1)),
        Settled(1.5, header("u"), PAYLOAD, made, "0f0f"),
        Ended(2.0, "enough"),
    ]


@given(any_entries)
@settings(max_examples=60)
def test_what_was_written_is_read(entries: list[Entry]) -> None:
    with TemporaryDirectory() as made:
        write(Path(made), entries)
        assert read_history(Path(made)).beginning == BEGINNING
        assert read(Path(made)) == entries


class Breaking(list[Entry]):
    """Entries of which only the first can be had."""

    def __iter__(self) -> Iterator[Entry]:
        yield self[0]
        raise ZeroDivisionError


def damaged(folder: Path, line: int, before: str, after: str) -> None:
    """Write `some`, and change one of its lines, counted from 1."""
    write(folder, some())
    lines = (folder / LINES).read_text().splitlines()
    assert before in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(before, after)
    (folder / LINES).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "before", "after", "told"),
    [
        (1, "hocket-history-1", "hocket-history-9", "format is not"),
        (1, '"manifest"', '"manifold"', "manifest is missing"),
        (2, '"joined"', '"parted"', "kind is 'parted', which no entry has"),
        (3, '"version":1', '"version":-1', "version is of int '-1'"),
        (3, "0.5", "NaN", "NaN is no finite number"),
        (4, "1.5", "0.25", "before the entry that comes first"),
        (4, '"offset":0', '"offset":1', "begins at byte 1, where 0 is next"),
        (4, '"wire_bytes":8', '"wire_bytes":9', "ends at byte 9 of bodies.bin, which has 8"),
        (5, '{"kind"', '{"kind', "line 5: "),
        (6, '"entries":4', '"entries":5', "says 5 entries and 8 bytes"),
        (6, '"end"', '"ended"', "at_s is missing"),
    ],
)
def test_damage_is_told_with_file_and_line(
    tmp_path: Path, line: int, before: str, after: str, told: str
) -> None:
    damaged(tmp_path, line, before, after)
    with pytest.raises(CorruptState, match=re.escape(told)) as caught:
        read(tmp_path)
    assert f"{tmp_path / LINES}, line {line}: " in caught.value.message
    assert caught.value.details["line"] == str(line)


def test_what_is_not_whole_is_refused(tmp_path: Path) -> None:
    write(tmp_path, some())
    whole = (tmp_path / LINES).read_bytes()
    (tmp_path / LINES).write_bytes(whole[: whole.rindex(b'{"kind":"end"')])
    with pytest.raises(CorruptState, match="line 6: the line that says how much there is"):
        read(tmp_path)
    (tmp_path / LINES).write_bytes(whole + b"{}\n")
    with pytest.raises(CorruptState, match="line 6: more lines follow"):
        read(tmp_path)
    (tmp_path / LINES).write_bytes(whole)
    (tmp_path / BODIES).unlink()
    with pytest.raises(CorruptState, match=BODIES):
        read(tmp_path)
    told = [found.entry for found in read_history(tmp_path).entries(bodies=False)]
    assert [type(entry) for entry in told] == [type(entry) for entry in some()]
    with pytest.raises(NotFound, match="there is no history in"):
        read_history(tmp_path / "elsewhere")


def test_a_recording_that_breaks_off_does_not_count(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write(tmp_path, Breaking(some()))
    with pytest.raises(CorruptState, match="line 3"):
        read(tmp_path)


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    diverged = replace(header("u"), train_loss=math.inf)
    made = Applied(Version(2), 0.5, 0)
    with pytest.raises(HocketError, match=r"lower training\.learning_rate"):
        write(tmp_path, [Settled(1.0, diverged, None, made, "")])


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "h") as partial:
        write(partial, Breaking(some()))
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "h") as partial:
        write(partial, some())
    assert [path.name for path in tmp_path.iterdir()] == ["h"]
    assert read(tmp_path / "h") == some()
    with pytest.raises(HocketError, match="is there already"), new_folder(tmp_path / "h"):
        pytest.fail("it was made over again")
    (tmp_path / "file").write_text("")
    with pytest.raises(HocketError, match="cannot be written"), new_folder(tmp_path / "file" / "h"):
        pytest.fail("it was made within a file")
