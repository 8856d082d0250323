"""The latest changes of devices, so that a watcher who knows a revision gets only the rest."""

from __future__ import annotations

from collections import deque
from itertools import islice

from hocket.core.device import Device


class ChangeLog:
    """At most `size` changes, oldest first, their revisions without gaps.

    `revision` is the one that was current before the first change.
    """

    def __init__(self, size: int, revision: int = 0) -> None:
        self._changes: deque[Device] = deque(maxlen=size)
        self._revision = revision

    def append(self, device: Device) -> None:
        """Remember a change; beyond `size` the oldest is forgotten."""
        self._changes.append(device)
        self._revision = device.revision

    def since(self, revision: int) -> list[Device] | None:
        """The changes after `revision`, or None if some of them are forgotten."""
        forgotten = self._revision - len(self._changes)
        if revision < forgotten:
            return None
        return list(islice(self._changes, revision - forgotten, None))
