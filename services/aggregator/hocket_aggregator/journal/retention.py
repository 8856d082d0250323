"""How much of the journal stays beyond what recovery needs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hocket_aggregator.journal.reader import file_of, segments


def replay_starts(folder: Path, starts: Iterable[int], limit_bytes: int) -> list[int]:
    """Of the segments at which replay could start, the ones at which it shall, oldest first.

    The oldest from which on the journal takes `limit_bytes` at most, and the last that is no more
    than half of them further on: when the first is past the limit the second takes its place. So
    the journal reaches back half the limit at any time, as near as there are starts.

    Raises OSError.
    """
    sizes = {number: file_of(folder, number).stat().st_size for number in segments(folder)}

    def bytes_from(start: int) -> int:
        return sum(size for number, size in sizes.items() if number >= start)

    within = [s for s in sorted(set(starts)) if s in sizes and bytes_from(s) <= limit_bytes]
    if not within:
        return []
    half = bytes_from(within[0]) - limit_bytes / 2
    near = [s for s in within[1:] if bytes_from(s) >= half]
    return [within[0], *(near[-1:] or within[1:2])]
