"""The global models that are kept: the newest, and the bases that a device in flight may need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from hocket.core.ids import DeviceId, Version
from hocket.core.strategy import Global
from hocket.errors import UnknownVersion

P = TypeVar("P")

IN_MEMORY = 8
"""Bases kept in main memory besides the newest, unless told otherwise."""


class Shelf(Protocol[P]):
    """Where bases wait that main memory has no room for."""

    def put(self, version: Version, model: P) -> P:
        """The same values, held elsewhere: in a file that is mapped into memory, for one."""
        ...

    def drop(self, version: Version) -> None:
        """Nobody can ask for this one any more; it need not have been put there."""
        ...


class Versions(Generic[P]):
    """Memory follows the number of distinct bases in flight, never the number of devices.

    A base is kept while a device holds it. A holder that falls silent keeps its hold, since it may
    come back with an update yet, until its base is staler than the limit; but its base goes to
    the shelf, and so do the oldest of more than `in_memory` others. Bases move in `add` only, so
    that whoever calls it knows where the time goes.
    """

    def __init__(
        self,
        first: Global[P],
        staleness_limit: int,
        *,
        shelf: Shelf[P] | None = None,
        in_memory: int = IN_MEMORY,
    ) -> None:
        self._newest = first
        self._models: dict[Version, P] = {first.version: first.model}  # oldest first
        self._held_by: dict[DeviceId, Version] = {}
        self._holders: dict[Version, int] = {}
        self._silent: set[DeviceId] = set()  # holders that may never come back
        self._shelved: set[Version] = set()
        self._limit = staleness_limit
        self._shelf = shelf
        self._in_memory = in_memory

    @property
    def newest(self) -> Global[P]:
        """The newest global model. Immutable: hold it as long as you like."""
        return self._newest

    @property
    def retained(self) -> tuple[Version, ...]:
        """Versions that can be handed out, oldest first."""
        return tuple(self._models)

    @property
    def oldest(self) -> Version:
        """The oldest version that can be handed out."""
        return next(iter(self._models))

    @property
    def bases(self) -> dict[Version, P]:
        """What is retained besides the newest."""
        return {v: model for v, model in self._models.items() if v != self._newest.version}

    @property
    def holds(self) -> dict[DeviceId, Version]:
        """The base of each device that holds one which is still retained."""
        return {d: version for d, version in self._held_by.items() if version in self._models}

    def restore(self, bases: Mapping[Version, P], holds: Mapping[DeviceId, Version]) -> None:
        """Take back the bases of an earlier life; nobody has been heard of since."""
        shelved = {v: self._shelve(v, model) for v, model in bases.items()}
        self._models = dict(sorted({**self._models, **shelved}.items(), key=itemgetter(0)))
        for device_id, version in holds.items():
            self.hold(device_id, version)
            self.fall_silent(device_id)

    def get(self, version: Version) -> P:
        """A retained model; raises UnknownVersion for any other."""
        try:
            return self._models[version]
        except KeyError:
            raise UnknownVersion(
                f"version {version} is not retained (newest is {self._newest.version}); "
                "pull the newest model with for_training set and train from it",
                newest=str(self._newest.version),
            ) from None

    def add(self, newest: Global[P]) -> None:
        """A server step was made."""
        previous, self._newest = self._newest.version, newest
        self._models[newest.version] = newest.model
        self._drop_unless_needed(previous)
        while newest.version - self.oldest > self._limit:
            self._drop(self.oldest)
        for version in self._to_shelve():
            self._models[version] = self._shelve(version, self._models[version])

    def hold(self, device_id: DeviceId, version: Version) -> None:
        """Keep `version` until the device releases it or holds another; it must be retained."""
        self.get(version)
        self._silent.discard(device_id)
        if self._held_by.get(device_id) == version:
            return
        self.release(device_id)
        self._held_by[device_id] = version
        self._holders[version] = self._holders.get(version, 0) + 1

    def release(self, device_id: DeviceId) -> None:
        """The device needs its base no more."""
        self._silent.discard(device_id)
        version = self._held_by.pop(device_id, None)
        if version is None:
            return
        self._holders[version] -= 1
        if not self._holders[version]:
            del self._holders[version]
            self._drop_unless_needed(version)

    def held_by(self, device_id: DeviceId) -> Version | None:
        """The base that the device holds, silent or not."""
        return self._held_by.get(device_id)

    def fall_silent(self, device_id: DeviceId) -> None:
        """The device may be gone for good; its base need not stay in main memory."""
        if device_id in self._held_by:
            self._silent.add(device_id)

    def _to_shelve(self) -> Iterable[Version]:
        """Bases that only silent devices hold, and the oldest beyond `in_memory`."""
        if self._shelf is None:
            return ()
        awake = {v for d, v in self._held_by.items() if d not in self._silent}
        loose = [v for v in self._models if v not in self._shelved]
        loose.remove(self._newest.version)
        kept = [v for v in loose if v in awake]
        kept = kept[max(0, len(kept) - self._in_memory) :]
        return [v for v in loose if v not in kept]

    def _shelve(self, version: Version, model: P) -> P:
        if self._shelf is None:
            return model
        self._shelved.add(version)
        return self._shelf.put(version, model)

    def _drop_unless_needed(self, version: Version) -> None:
        if version != self._newest.version and version not in self._holders:
            self._drop(version)

    def _drop(self, version: Version) -> None:
        self._models.pop(version, None)
        if version in self._shelved and self._shelf is not None:
            self._shelved.discard(version)
            self._shelf.drop(version)
