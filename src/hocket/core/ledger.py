"""What became of each update, so that the same update_id always gets the same answer."""

from __future__ import annotations

from collections import OrderedDict

from hocket.core.ids import DeviceId, UpdateId
from hocket.core.update import Outcome
from hocket.errors import InvalidUpdate

DEFAULT_ENTRIES = 100_000


class Ledger:
    """The last `entries` outcomes.

    An older update_id was settled so long ago that its base is gone: it cannot be applied twice.
    """

    def __init__(self, entries: int = DEFAULT_ENTRIES) -> None:
        self._entries = entries
        self._settled: OrderedDict[UpdateId, tuple[DeviceId, Outcome]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._settled)

    def settle(self, update_id: UpdateId, device_id: DeviceId, outcome: Outcome) -> None:
        """Record an outcome, once and for all."""
        self._settled[update_id] = (device_id, outcome)
        if len(self._settled) > self._entries:
            self._settled.popitem(last=False)

    def outcome(self, update_id: UpdateId, device_id: DeviceId) -> Outcome | None:
        """The first answer, or None; raises InvalidUpdate if another device used this id."""
        entry = self._settled.get(update_id)
        if entry is None:
            return None
        owner, outcome = entry
        if owner != device_id:
            raise InvalidUpdate(
                f"update_id {update_id!r} was used by another device; choose ids nobody else can",
                update_id=update_id,
            )
        return outcome
