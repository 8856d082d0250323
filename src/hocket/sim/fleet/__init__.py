"""Fleets from a TOML file, a device table or a CSV trace, worked out device by device on demand.

A fleet file has these keys; those of `examples/fleets/hundred.toml` are explained there.

    name, seed, devices, task, data_shards, examples_per_device, preset
    [server]          up_bytes_per_s, down_bytes_per_s, step_s, lease_s, resume_s
    [[class]]         name, share; preset, or fixed_s and per_example_s, or costs; macs, spread,
                      jitter, overhead_s, processor_share, share_schedule, memory_bytes, keep,
                      labels, links, availability
    [[link]]          name, up_bytes_per_s, down_bytes_per_s, rtt_s, loss, uplink; or preset
    [[uplink]]        name, up_bytes_per_s, down_bytes_per_s, devices_each
    [[availability]]  name, kind, mid_training; and with kind "on_off" mean_on_s, mean_off_s,
                      start_on; with kind "windows" steps, phase; kind "always" has no more
    [trace]           file (CSV, see `csv_trace`), repeat_s, mid_training
    [[device]]        name, class, link, availability, shard
    [skew]            kind and what it needs, as a task's [partition]
    [evaluation]      every_s, examples
    [stop]            virtual_s, versions, accuracy
    [run]             batched, device, record, targets
"""

from __future__ import annotations

from hocket.sim.fleet.availability import Availability
from hocket.sim.fleet.file import FleetFile
from hocket.sim.fleet.links import Rates
from hocket.sim.fleet.reading import read_fleet, read_roster
from hocket.sim.fleet.roster import SERVER_LINK, DevicePlan, Roster

__all__ = [
    "SERVER_LINK",
    "Availability",
    "DevicePlan",
    "FleetFile",
    "Rates",
    "Roster",
    "read_fleet",
    "read_roster",
]
