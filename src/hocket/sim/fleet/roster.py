"""Who is in a fleet: each device's plan is worked out when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hocket.core.capability import Capability, CostLine
from hocket.core.chance import Stream, stream_seed
from hocket.core.ids import DeviceId
from hocket.sim.fleet.availability import Availability, MidTraining
from hocket.sim.fleet.classes import DeviceClass
from hocket.sim.fleet.csv_trace import Trace
from hocket.sim.fleet.file import FleetFile, OwnDevice
from hocket.sim.fleet.links import LinkClass, Rates, SteadyRates, Uplink
from hocket.sim.lognormal import lognormal

Indices = NDArray[np.int32]
SERVER_LINK = -1  # in place of an uplink's number


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """What is settled about a device before anything happens."""

    device_id: DeviceId
    index: int
    shard: int  # of the examples, out of the fleet's `num_shards`
    device_class: DeviceClass
    costs: tuple[CostLine, ...]  # of its class; this device takes `slowness` times as long
    slowness: float  # lognormal, median 1
    link: LinkClass
    rates: Rates  # of its own link, over time
    uplink: int  # number among `Roster.uplinks`, or SERVER_LINK
    availability: Availability
    mid_training: MidTraining

    @property
    def own_costs(self) -> tuple[CostLine, ...]:
        """Seconds of this device's optimiser steps on its whole processor."""
        return tuple(_slower(line, self.slowness) for line in self.costs)

    def capability(self, now: float, num_examples: int) -> Capability:
        """What it reports at `now`; its costs follow the share of its processor that it has."""
        share = self.device_class.shares.at(now)
        return Capability(
            costs=tuple(_slower(line, 1.0 / share) for line in self.own_costs),
            processor_share=share,
            memory_bytes=self.device_class.memory_bytes,
            num_examples=num_examples,
        )


def _lines(device_class: DeviceClass, model_macs: int) -> tuple[CostLine, ...]:
    """Of the class's typical device with that model."""
    if not (device_class.macs and model_macs):
        return device_class.lines
    return tuple(_slower(line, model_macs / device_class.macs) for line in device_class.lines)


def _slower(line: CostLine, factor: float) -> CostLine:
    """The line of a device that takes `factor` times as long."""
    return replace(line, fixed_s=line.fixed_s * factor, per_example_s=line.per_example_s * factor)


class Roster:
    """The devices of a fleet. The same file and seed give the same, in any order of asking.

    Only the class, link and uplink of a device are kept, as numbers. How many devices are of a
    class follows from the shares, by largest remainder; which ones, from chance. Each class deals
    its links out likewise.

    `model_macs` are the multiply-accumulates of one example of the model that is trained, by which
    the speed of a class is translated that was measured on another; 0: not known.
    """

    def __init__(
        self, fleet: FleetFile, seed: int, trace: Trace | None = None, model_macs: int = 0
    ) -> None:
        self.num_devices = fleet.num_devices
        self._fleet, self._seed, self._trace = fleet, seed, trace
        self._classes, self._links = fleet.all_classes, fleet.all_links
        self._costs = [_lines(device_class, model_macs) for device_class in self._classes]
        own = fleet.own_devices
        mix = _named(fleet, seed) if own else _dealt(fleet, seed)
        self._class_of, self._link_of = mix
        self.uplinks, self._uplink_of = _uplinks(fleet, self._link_of)

    def plan(self, index: int) -> DevicePlan:
        """Device number `index`. Raises IndexError outside 0 .. num_devices - 1."""
        if not 0 <= index < self.num_devices:
            raise IndexError(f"there is no device {index} of {self.num_devices}")
        device_class = self._classes[self._class_of[index]]
        link = self._links[self._link_of[index]]
        own = self._fleet.own_devices[index] if self._fleet.own_devices else None
        device_id = device_id_of(self._fleet, index)
        availability, mid_training = self._times(index, device_id, device_class, own)
        return DevicePlan(
            device_id=device_id,
            index=index,
            shard=index % self._fleet.num_shards if own is None or own.shard is None else own.shard,
            device_class=device_class,
            costs=self._costs[self._class_of[index]],
            slowness=lognormal(Stream(self._seed, "fleet", device_id), device_class.spread),
            link=link,
            rates=self._rates(index, link),
            uplink=int(self._uplink_of[index]),
            availability=availability,
            mid_training=mid_training,
        )

    def _times(
        self, index: int, device_id: DeviceId, device_class: DeviceClass, own: OwnDevice | None
    ) -> tuple[Availability, MidTraining]:
        fleet = self._fleet
        if self._trace is not None and fleet.trace is not None:
            return self._trace.availability(index), fleet.trace.mid_training
        name = (own and own.availability) or device_class.availability
        table = fleet.availability_of(name)
        return table.of_device(self._seed, device_id), table.mid_training

    def _rates(self, index: int, link: LinkClass) -> Rates:
        steady = SteadyRates.of(link)
        return steady if self._trace is None else self._trace.rates(index, steady)


def device_ids(fleet: FleetFile) -> Iterator[DeviceId]:
    """The ids of all devices, in the order of their numbers."""
    return (device_id_of(fleet, index) for index in range(fleet.num_devices))


def device_id_of(fleet: FleetFile, index: int) -> DeviceId:
    """The id of device number `index`; numbered ids sort as their numbers do."""
    if fleet.own_devices:
        return DeviceId(fleet.own_devices[index].name)
    return DeviceId(f"device-{index:0{len(str(fleet.num_devices - 1))}d}")


def shared_out(count: int, weights: Sequence[float]) -> list[int]:
    """`count` in whole parts that follow the weights, by largest remainder (first of equals)."""
    quotas = [count * weight / sum(weights) for weight in weights]
    parts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(parts)), key=lambda at: parts[at] - quotas[at])
    for at in by_remainder[: count - sum(parts)]:
        parts[at] += 1
    return parts


def _dealt(fleet: FleetFile, seed: int) -> tuple[Indices, Indices]:
    """Class and link of each device, in the parts that the weights ask for, shuffled."""
    counts = shared_out(fleet.num_devices, [known.share for known in fleet.all_classes])
    links: list[int] = []
    for device_class, count in zip(fleet.all_classes, counts, strict=True):
        for link, part in enumerate(shared_out(count, _link_weights(fleet, device_class))):
            links += [link] * part
    chance = np.random.Generator(np.random.PCG64(stream_seed(seed, "fleet", "mix")))
    order = chance.permutation(fleet.num_devices)
    of_class = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return of_class[order], np.array(links, np.int32)[order]


def _named(fleet: FleetFile, seed: int) -> tuple[Indices, Indices]:
    """Class and link of each named device; a link that it does not name is drawn."""
    classes = {known.name: at for at, known in enumerate(fleet.all_classes)}
    links = {known.name: at for at, known in enumerate(fleet.all_links)}
    of_class = [classes[device.device_class] for device in fleet.own_devices]
    of_link = []
    for device, at in zip(fleet.own_devices, of_class, strict=True):
        chance = Stream(seed, "fleet", "link", device.name)
        weights = _link_weights(fleet, fleet.all_classes[at])
        drawn = chance.weighted(range(len(weights)), weights, 1)[0]
        of_link.append(links[device.link] if device.link else drawn)
    return np.array(of_class, np.int32), np.array(of_link, np.int32)


def _link_weights(fleet: FleetFile, device_class: DeviceClass) -> list[float]:
    weights = device_class.links
    return [weights.get(link.name, 0.0) if weights else 1.0 for link in fleet.all_links]


def _uplinks(fleet: FleetFile, link_of: Indices) -> tuple[tuple[Uplink, ...], Indices]:
    """All instances of the bottlenecks, and that of each device: neighbours by number share one."""
    instances: list[Uplink] = []
    uplink_of = np.full(fleet.num_devices, SERVER_LINK, np.int32)
    for uplink in fleet.uplinks:
        named = [at for at, link in enumerate(fleet.all_links) if link.uplink == uplink.name]
        members = np.flatnonzero(np.isin(link_of, named))
        each = uplink.devices_each or max(len(members), 1)
        uplink_of[members] = len(instances) + np.arange(len(members)) // each
        instances += [uplink] * -(-len(members) // each)
    return tuple(instances), uplink_of
