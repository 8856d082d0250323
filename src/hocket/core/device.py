"""A device as the registry knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from hocket.core.capability import Capability
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import AGGREGATOR_PEER, Link


class DeviceState(IntEnum):
    """Wire values; never renumber."""

    ALIVE = 1  # holds a lease
    EXPIRED = 2  # was silent for longer than its lease
    LEFT = 3  # gave its lease back


@dataclass(frozen=True, slots=True)
class Caller:
    """Who speaks: a device, and which of its incarnations."""

    device_id: DeviceId
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class Device:
    """One device's record. `revision` grows with each change anywhere in the registry."""

    device_id: DeviceId
    incarnation: Incarnation
    state: DeviceState
    capability: Capability
    links: tuple[Link, ...] = ()
    lease_left_s: float = 0.0
    revision: int = 0
    joined_unix_s: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)

    def link_to(self, peer: str = AGGREGATOR_PEER) -> Link:
        """The link to a peer; an unmeasured one if nothing is known."""
        return next((link for link in self.links if link.peer == peer), Link(peer))


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices to list. The default lets every device through."""

    device_ids: frozenset[DeviceId] = frozenset()  # empty: any
    states: frozenset[DeviceState] = frozenset()  # empty: any
    available_only: bool = False
    min_processor_share: float = 0.0
    min_memory_bytes: int = 0
    min_up_bytes_per_s: float = 0.0  # to the aggregator
    min_down_bytes_per_s: float = 0.0  # from the aggregator
    labels: Mapping[str, str] = field(default_factory=dict)  # all of them must match

    def matches(self, device: Device) -> bool:
        """Whether the device passes every condition; a link not measured yet carries nothing."""
        return (
            (not self.device_ids or device.device_id in self.device_ids)
            and (not self.states or device.state in self.states)
            and self._can(device.capability)
            and self._carries(device.link_to(AGGREGATOR_PEER))
            and all(device.labels.get(key) == value for key, value in self.labels.items())
        )

    def _can(self, capability: Capability) -> bool:
        return (
            (capability.available or not self.available_only)
            and capability.processor_share >= self.min_processor_share
            and capability.memory_bytes >= self.min_memory_bytes
        )

    def _carries(self, link: Link) -> bool:
        return (
            link.up_bytes_per_s >= self.min_up_bytes_per_s
            and link.down_bytes_per_s >= self.min_down_bytes_per_s
        )


ANY_DEVICE = DeviceFilter()
