"""What became of each update, so that the same update_id always gets the same answer."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.update import Outcome, UpdateHeader
from hocket.errors import InvalidUpdate

DEFAULT_ENTRIES = 100_000


@dataclass(frozen=True, slots=True)
class _Entry:
    device_id: DeviceId
    base_version: Version
    outcome: Outcome


class Ledger:
    """The last `entries` outcomes, and those of any update that could still be applied.

    What is forgotten cannot be applied twice: its base is gone.
    """

    def __init__(self, entries: int = DEFAULT_ENTRIES) -> None:
        self._entries = entries
        self._settled: OrderedDict[UpdateId, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._settled)

    def settle(self, header: UpdateHeader, outcome: Outcome, oldest: Version) -> None:
        """Record an outcome, once and for all. `oldest` is the oldest base still retained."""
        self.note(header.update_id, header.device_id, header.base_version, outcome)
        self.forget(oldest)

    def forget(self, oldest: Version) -> None:
        """Let go of what is too much, the oldest first. `oldest` as in `settle`."""
        while len(self._settled) > self._entries:
            first = next(iter(self._settled.values()))
            if first.base_version >= oldest:
                break
            self._settled.popitem(last=False)

    def note(
        self, update_id: UpdateId, device_id: DeviceId, base_version: Version, outcome: Outcome
    ) -> None:
        """Take down an outcome of an earlier life."""
        self._settled[update_id] = _Entry(device_id, base_version, outcome)

    def outcome(self, update_id: UpdateId, device_id: DeviceId) -> Outcome | None:
        """The first answer, or None; raises InvalidUpdate if another device used this id."""
        entry = self._settled.get(update_id)
        if entry is None:
            return None
        if entry.device_id != device_id:
            raise InvalidUpdate(
                f"update_id {update_id!r} was used by another device; choose ids nobody else can",
                update_id=update_id,
            )
        return entry.outcome
