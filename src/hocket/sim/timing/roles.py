"""Which device of a fleet plays which device of a history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hocket.core.ids import DeviceId
from hocket.errors import TaskError
from hocket.sim.fleet import DevicePlan
from hocket.sim.fleet.roster import device_ids
from hocket.sim.history import Entry, Held, History, Settled
from hocket.sim.preparing import Prepared


def plans_of(history: History, prepared: Prepared) -> Mapping[DeviceId, DevicePlan]:
    """The plan of each device that took part, under its own name.

    They are found by name; a fleet of numbered devices that does not know all of the names gives
    its numbers out in the order in which they first took part. Raises TaskError where that leaves
    a device without a plan, and CorruptState for a history that is damaged.
    """
    fleet, roster = prepared.scenario.fleet, prepared.roster
    told = (_name(found.entry) for found in history.entries(bodies=False))
    names = list(dict.fromkeys(name for name in told if name is not None))
    numbers = {name: number for number, name in enumerate(device_ids(fleet))}
    unknown = [name for name in names if name not in numbers]
    if not unknown:
        return {name: roster.plan(numbers[name]) for name in names}
    if fleet.own_devices:
        raise TaskError(
            f"the fleet has no device {unknown[0]!r}, which took part in the history; add a "
            "[[device]] of that name"
        )
    if len(names) > fleet.num_devices:
        raise TaskError(
            f"{len(names)} devices took part in the history, and the fleet has "
            f"{fleet.num_devices}; set devices = {len(names)}"
        )
    return {name: replace(roster.plan(number), device_id=name) for number, name in enumerate(names)}


def _name(entry: Entry) -> DeviceId | None:
    match entry:
        case Held(_, device_id):
            return device_id
        case Settled(_, header):
            return header.device_id
    return None
