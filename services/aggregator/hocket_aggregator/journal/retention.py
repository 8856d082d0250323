"""How much of the journal stays beyond what recovery needs."""

from __future__ import annotations

from pathlib import Path

from hocket_aggregator.journal.reader import file_of, segments


def oldest_within(folder: Path, limit_bytes: int) -> int:
    """The oldest segment from which on all take `limit_bytes` at most; the newest, if none does.

    0 for a folder without segments.
    """
    oldest, taken = 0, 0
    for number in reversed(segments(folder)):
        taken += file_of(folder, number).stat().st_size
        if oldest and taken > limit_bytes:
            break
        oldest = number
    return oldest
