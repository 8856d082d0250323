"""Which of a history's versions are asked for when, so that no others have to be kept."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from hocket.core.ids import FIRST_VERSION, Version
from hocket.core.strategy import Global
from hocket.errors import CorruptState
from hocket.sim.history import Closed, Entry, Found, Held, Settled


def last_uses(entries: Iterable[Found]) -> dict[Version, int]:
    """The line of the last entry that asks for a version, of all that any entry asks for."""
    return {version: found.line for found in entries for version in asked_by(found.entry)}


def asked_by(entry: Entry) -> tuple[Version, ...]:
    """The versions whose values the entry is about."""
    match entry:
        case Held(_, _, version):
            return (version,)
        case Settled(_, header):
            merged = () if header.refresh is None else (header.refresh.version,)
            return (header.base_version, *merged)
    return ()


def made_by(entry: Entry) -> bool:
    """Whether the entry made a version."""
    return isinstance(entry, (Settled, Closed)) and bool(entry.digest)


class Bases:
    """What was newest here when a recorded version was newest there: of the same number, usually.

    Args:
        last_use: as `last_uses` gives it.
        first: the model that it begins with.
    """

    def __init__(self, last_use: dict[Version, int], first: Global[Tensor]) -> None:
        self.newest = Version(FIRST_VERSION)  # as recorded
        self._last_use = last_use
        self._kept: dict[Version, Global[Tensor]] = {}
        self._keep(first)

    def made(self, newest: Global[Tensor]) -> None:
        """The next version was made there, and this is what is newest here."""
        self.newest = Version(self.newest + 1)
        self._keep(newest)

    def of(self, version: Version) -> Global[Tensor]:
        """What was newest here then. Raises CorruptState for a version that there was not yet."""
        try:
            return self._kept[version]
        except KeyError:
            raise CorruptState(f"version {version} is asked for before it was made") from None

    def forget(self, found: Found) -> None:
        """Drop what no later entry asks for."""
        for version in asked_by(found.entry):
            if self._last_use[version] <= found.line:
                self._kept.pop(version, None)

    def _keep(self, newest: Global[Tensor]) -> None:
        if self.newest in self._last_use:
            self._kept[self.newest] = newest
