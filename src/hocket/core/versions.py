"""The global models that are kept: the newest, and the bases that a device in flight may need."""

from __future__ import annotations

from typing import Generic, TypeVar

from hocket.core.ids import DeviceId, Version
from hocket.core.strategy import Global
from hocket.errors import UnknownVersion

P = TypeVar("P")


class Versions(Generic[P]):
    """Memory follows the number of distinct bases in flight, never the number of devices."""

    def __init__(self, first: Global[P], staleness_limit: int) -> None:
        self._newest = first
        self._models: dict[Version, P] = {first.version: first.model}
        self._held_by: dict[DeviceId, Version] = {}
        self._holders: dict[Version, int] = {}
        self._limit = staleness_limit

    @property
    def newest(self) -> Global[P]:
        """The newest global model. Immutable: hold it as long as you like."""
        return self._newest

    @property
    def retained(self) -> tuple[Version, ...]:
        """Versions that can be handed out, oldest first."""
        return tuple(sorted(self._models))

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
        for version in [v for v in self._models if newest.version - v > self._limit]:
            del self._models[version]

    def hold(self, device_id: DeviceId, version: Version) -> None:
        """Keep `version` until the device releases it or holds another; it must be retained."""
        self.get(version)
        if self._held_by.get(device_id) == version:
            return
        self.release(device_id)
        self._held_by[device_id] = version
        self._holders[version] = self._holders.get(version, 0) + 1

    def release(self, device_id: DeviceId) -> None:
        """The device needs its base no more."""
        version = self._held_by.pop(device_id, None)
        if version is None:
            return
        self._holders[version] -= 1
        if not self._holders[version]:
            del self._holders[version]
            self._drop_unless_needed(version)

    def _drop_unless_needed(self, version: Version) -> None:
        if version != self._newest.version and version not in self._holders:
            self._models.pop(version, None)
