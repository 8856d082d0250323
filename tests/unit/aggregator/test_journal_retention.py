"""Where replay shall be able to start, so that it always can within half the limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hocket_aggregator.journal.reader import file_of
from hocket_aggregator.journal.retention import replay_starts

LIMIT_BYTES = 1000
KEPT = 2  # newest snapshots that stay anyway


def segment(folder: Path, number: int, num_bytes: int) -> None:
    file_of(folder, number).write_bytes(bytes(num_bytes))


def test_the_oldest_within_the_limit_and_one_half_the_limit_on(tmp_path: Path) -> None:
    for number in range(1, 13):
        segment(tmp_path, number, 100)
    assert replay_starts(tmp_path, range(1, 13), LIMIT_BYTES) == [3, 8]
    assert replay_starts(tmp_path, [2, 4, 6, 7, 11], LIMIT_BYTES) == [4, 7]
    assert replay_starts(tmp_path, [4, 11, 12], LIMIT_BYTES) == [4, 11]  # none is so near
    assert replay_starts(tmp_path, [4, 4], LIMIT_BYTES) == [4]


def test_no_start_is_where_no_journal_is(tmp_path: Path) -> None:
    assert replay_starts(tmp_path, [1, 2], LIMIT_BYTES) == []
    segment(tmp_path, 5, 100)
    assert replay_starts(tmp_path, [2, 4], LIMIT_BYTES) == []
    segment(tmp_path, 6, 2000)
    assert replay_starts(tmp_path, [5, 6], LIMIT_BYTES) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_journal_reaches_back_half_the_limit_at_any_time(tmp_path: Path, seed: int) -> None:
    """A snapshot for each segment, of which only what is asked for and the newest stay."""
    sizes = [20 + (seed * 37 + number * number * 13) % 60 for number in range(200)]
    starts: list[int] = []
    for number, num_bytes in enumerate(sizes):
        segment(tmp_path, number, num_bytes)
        starts.append(number)
        chosen = replay_starts(tmp_path, starts, LIMIT_BYTES)
        starts = sorted({*chosen, *starts[-KEPT:]})
        reached = sum(sizes[chosen[0] : number + 1])
        assert reached <= LIMIT_BYTES
        if sum(sizes[: number + 1]) >= LIMIT_BYTES:
            assert reached >= LIMIT_BYTES / 2 - max(sizes)
