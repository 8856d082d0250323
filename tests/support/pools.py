"""A pool that is simply a list, for tests of selections."""

from __future__ import annotations

from collections.abc import Iterable

from hocket.core.ids import DeviceId
from hocket.core.scheduling import Candidate


class Listed:
    """Candidates in the order given."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._candidates = list(candidates)
        self._ids = {candidate.device_id for candidate in self._candidates}
        self.looked_at = 0  # how often somebody asked for all that is known of one

    def __len__(self) -> int:
        return len(self._candidates)

    def __contains__(self, device_id: DeviceId) -> bool:
        return device_id in self._ids

    def device_id(self, rank: int) -> DeviceId:
        return self._candidates[rank].device_id

    def candidate(self, rank: int) -> Candidate:
        self.looked_at += 1
        return self._candidates[rank]
