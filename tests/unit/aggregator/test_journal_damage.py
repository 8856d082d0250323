"""A torn tail is cut off; any other damage names its file and offset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import xxhash
from hocket_aggregator.journal.reader import (
    cut_torn_tail,
    drop_before,
    read_entries,
    segments,
)
from support.journals import (
    ONE_OF_EACH,
    entries_in,
    held,
    killed_segment,
    piece,
    write_segment,
)

from hocket.errors import CorruptState, StartupError

BEGINNING = 40


def offsets(folder: Path) -> list[int]:
    return [found.offset for found in read_entries(folder, 1)]


@contextmanager
def flipped(file: Path, at: int) -> Iterator[None]:
    """With another byte in this place, written there: a new file each time waits for the disk."""
    _flip(file, at)
    yield
    _flip(file, at)


def _flip(file: Path, at: int) -> None:
    with file.open("r+b") as changed:
        changed.seek(at)
        (byte,) = changed.read(1)
        changed.seek(at)
        changed.write(bytes([byte ^ 0xFF]))


async def test_a_tail_torn_at_any_byte_is_cut_off_and_all_before_it_is_there(
    tmp_path: Path,
) -> None:
    file = await killed_segment(tmp_path, ONE_OF_EACH)
    whole, last = file.read_bytes(), offsets(tmp_path)[-1]
    for length in range(last, len(whole)):
        file.write_bytes(whole[:length])
        assert entries_in(tmp_path) == ONE_OF_EACH[:-1]
        lost = cut_torn_tail(tmp_path)
        assert lost <= length - last
        assert lost or length < last + 8  # the mark is not all zeros
        assert file.read_bytes() == whole[:last]


async def test_a_segment_torn_in_its_beginning_holds_nothing(tmp_path: Path) -> None:
    file = await write_segment(tmp_path, [])
    whole = file.read_bytes()
    for length in range(BEGINNING):
        file.write_bytes(whole[:length])
        assert entries_in(tmp_path) == []
        cut_torn_tail(tmp_path)
        assert file.read_bytes() == b""
        assert entries_in(tmp_path) == []


async def test_any_flipped_byte_before_the_last_record_is_damage(tmp_path: Path) -> None:
    file = await write_segment(tmp_path, ONE_OF_EACH)
    starts = offsets(tmp_path)
    for at in range(starts[-1]):
        for use in (entries_in, cut_torn_tail):
            with flipped(file, at), pytest.raises(CorruptState) as damage:
                use(tmp_path)
            offset = max((start for start in starts if start <= at), default=0)
            assert damage.value.details == {"file": str(file), "offset": str(offset)}
            assert f"{file} is damaged: at byte {offset}" in damage.value.message


async def test_a_flipped_byte_in_the_last_record_is_a_torn_tail(tmp_path: Path) -> None:
    file = await killed_segment(tmp_path, ONE_OF_EACH)
    last = offsets(tmp_path)[-1]
    for at in range(last, file.stat().st_size):
        with flipped(file, at):
            assert entries_in(tmp_path) == ONE_OF_EACH[:-1]


async def test_room_allocated_ahead_is_no_damage(tmp_path: Path) -> None:
    file = await write_segment(tmp_path, ONE_OF_EACH)
    length = file.stat().st_size
    with file.open("ab") as grown:
        grown.truncate(length + 3_000_000)
    assert entries_in(tmp_path) == ONE_OF_EACH
    assert cut_torn_tail(tmp_path) == 0
    assert file.stat().st_size == length


async def test_a_body_that_looks_like_records_is_only_a_body(tmp_path: Path) -> None:
    other = await write_segment(tmp_path / "other", [held(n) for n in range(9)])
    file = await killed_segment(tmp_path / "mine", [held(1), piece("u", other.read_bytes())])
    start = offsets(tmp_path / "mine")[-1]
    torn = bytearray(file.read_bytes())
    torn[start + 8] ^= 0xFF
    file.write_bytes(torn)
    assert entries_in(tmp_path / "mine") == [held(1)]
    assert cut_torn_tail(tmp_path / "mine") == len(torn) - start


async def test_a_record_taken_out_is_damage(tmp_path: Path) -> None:
    file = await write_segment(tmp_path, [held(n) for n in range(3)])
    whole, (_, second, third) = file.read_bytes(), offsets(tmp_path)
    file.write_bytes(whole[:second] + whole[third:])
    with pytest.raises(CorruptState, match=f"at byte {second}"):
        entries_in(tmp_path)


async def test_a_record_put_in_twice_is_not_read_twice(tmp_path: Path) -> None:
    file = await write_segment(tmp_path, [held(n) for n in range(3)])
    whole, last = file.read_bytes(), offsets(tmp_path)[-1]
    file.write_bytes(whole + whole[last:])
    assert entries_in(tmp_path) == [held(n) for n in range(3)]


async def test_a_segment_under_another_number_is_damage(tmp_path: Path) -> None:
    file = await write_segment(tmp_path, ONE_OF_EACH)
    file.rename(tmp_path / "0000000002.journal")
    with pytest.raises(CorruptState, match="at byte 0"):
        entries_in(tmp_path, 2)


async def three_segments(folder: Path) -> list[Path]:
    return [await write_segment(folder, [held(n), held(10 * n)]) for n in (1, 2, 3)]


async def test_segments_are_read_one_after_the_other(tmp_path: Path) -> None:
    await three_segments(tmp_path)
    assert segments(tmp_path) == [1, 2, 3]
    assert entries_in(tmp_path) == [held(n) for n in (1, 10, 2, 20, 3, 30)]
    assert entries_in(tmp_path, 3) == [held(3), held(30)]
    assert entries_in(tmp_path, 4) == []


async def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    files = await three_segments(tmp_path)
    files[1].unlink()
    with pytest.raises(CorruptState, match="no such file") as damage:
        entries_in(tmp_path)
    assert damage.value.details["file"] == str(files[1])
    assert entries_in(tmp_path, 3) == [held(3), held(30)]


async def test_a_torn_record_before_the_last_segment_is_damage(tmp_path: Path) -> None:
    files = await three_segments(tmp_path)
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:-1])
    with pytest.raises(CorruptState) as damage:
        entries_in(tmp_path)
    assert damage.value.details["file"] == str(files[1])
    assert cut_torn_tail(tmp_path) == 0  # the last is whole


async def test_a_segment_cut_at_a_record_is_damage_when_another_follows(tmp_path: Path) -> None:
    files = await three_segments(tmp_path)
    whole = files[0].read_bytes()
    shorter = whole[: next(found.offset for found in read_entries(tmp_path, 1))]
    files[0].write_bytes(shorter)
    with pytest.raises(CorruptState, match=f"{len(whole)} bytes") as damage:
        entries_in(tmp_path)
    assert damage.value.details == {"file": str(files[0]), "offset": str(len(shorter))}
    files[0].write_bytes(b"")
    with pytest.raises(CorruptState, match=f"{len(whole)} bytes"):
        entries_in(tmp_path)


async def test_zeros_are_damage_where_another_segment_follows(tmp_path: Path) -> None:
    files = await three_segments(tmp_path)
    with files[0].open("ab") as grown:
        grown.write(b"\0" * 100)
    with pytest.raises(CorruptState, match="more segments"):
        entries_in(tmp_path)


async def test_after_a_crash_and_a_cut_a_new_segment_goes_on(tmp_path: Path) -> None:
    file = await killed_segment(tmp_path, [held(1), held(2)])
    file.write_bytes(file.read_bytes()[:-1] + b"\0" * 5000)
    cut_torn_tail(tmp_path)
    await write_segment(tmp_path, [held(3)])
    assert entries_in(tmp_path) == [held(1), held(3)]


async def test_old_segments_go_oldest_first_and_the_last_stays(tmp_path: Path) -> None:
    await three_segments(tmp_path)
    assert drop_before(tmp_path, 2) == 1
    assert segments(tmp_path) == [2, 3]
    assert drop_before(tmp_path, 9) == 1
    assert segments(tmp_path) == [3]
    assert drop_before(tmp_path, 9) == 0


async def test_no_folder_is_an_empty_journal(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert segments(nowhere) == []
    assert entries_in(nowhere) == []
    assert cut_torn_tail(nowhere) == 0
    assert drop_before(nowhere, 5) == 0


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    await write_segment(tmp_path, [held(1)])
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "1.journal").write_text("no")
    assert segments(tmp_path) == [1]
    assert entries_in(tmp_path) == [held(1)]


async def test_a_file_that_cannot_be_read_is_damage_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "0000000001.journal"
    file.mkdir()
    with pytest.raises(CorruptState, match="cannot be read"):
        entries_in(tmp_path)


async def test_a_file_that_cannot_be_cut_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await write_segment(tmp_path, [held(1)])
    file.write_bytes(file.read_bytes()[:-1])

    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(StartupError, match="Read-only file system"):
        cut_torn_tail(tmp_path)


async def test_another_format_is_told_and_left_alone(tmp_path: Path) -> None:
    file = await killed_segment(tmp_path, ONE_OF_EACH)
    older = bytearray(file.read_bytes())
    older[7] -= 1
    older[32:BEGINNING] = xxhash.xxh3_64_intdigest(older[:32]).to_bytes(8, "little")
    file.write_bytes(older)
    for use in (entries_in, cut_torn_tail):
        with pytest.raises(CorruptState, match="format that this Hocket does not read"):
            use(tmp_path)
    assert file.read_bytes() == older
