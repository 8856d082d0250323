"""Who was asked to work for the newest version, and who of them still does."""

from __future__ import annotations

from dataclasses import dataclass, field

from hocket.core.ids import DeviceId


@dataclass(slots=True)
class Round:
    """From the first trigger for a version to the next version."""

    began: float | None = None  # None: nobody was asked yet
    asked: set[DeviceId] = field(default_factory=set)  # and those whose updates came before
    working: set[DeviceId] = field(default_factory=set)  # of those asked, who is in flight

    def join(self, device_id: DeviceId, now: float) -> None:
        """The device works for the newest version from now on, if it does not do so already."""
        if self.began is None:
            self.began = now
        self.asked.add(device_id)
        self.working.add(device_id)

    def leave(self, device_id: DeviceId) -> None:
        """Nothing of the device's is in flight any more."""
        self.working.discard(device_id)

    def begin_anew(self, now: float) -> None:
        """Nothing came of it in time: it goes on with those who still work, without the others."""
        self.asked = set(self.working)
        self.began = now if self.working else None
