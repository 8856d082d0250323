"""A pool that is simply a list, for tests of selections."""

from __future__ import annotations

from collections.abc import Iterable

from hocket.core.ids import DeviceId
from hocket.core.scheduling import Candidate


class Listed:
    """Candidates in the order given."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._candidates = list(candidates)
        self.looked_at = 0  # how often somebody asked for all that is known of one

    def __len__(self) -> int:
        return len(self._candidates)

    def device_id(self, rank: int) -> DeviceId:
        return self._candidates[rank].device_id

    def candidate(self, rank: int) -> Candidate:
        self.looked_at += 1
        return self._candidates[rank]
