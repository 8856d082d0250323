"""summary.json of a simulation: what it came to, in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import torch

from hocket.sim.result import DeviceCounts, Result, Wall
from hocket.sim.scenario import Scenario

MOST_DEVICES = 1_000  # that are listed one by one


def summarise(result: Result, *, command: str, data_s: float = 0.0) -> dict[str, Any]:
    """The run as JSON types; seconds and bytes throughout, null for what never was.

    Only `wall_s` and `wall` differ between two runs of one scenario by the same command.

    Args:
        result: of the simulation.
        command: that made it.
        data_s: seconds of wall time before it, for reading and cutting up the data.
    """
    scenario, counts = result.scenario, result.counts
    last = result.curve[-1] if result.curve else None
    return {
        "task": scenario.task.name,
        "strategy": scenario.task.strategy.kind,
        "fleet": scenario.fleet.name,
        "command": command,
        "seed": scenario.seed,
        "hocket_version": version("hocket"),
        "torch_version": torch.__version__,
        "finished_reason": result.reason,
        "versions": result.newest.version,
        "digest": result.digest,
        "virtual_s": result.virtual_s,
        "wall_s": result.wall.total_s,
        "final_accuracy": result.final_accuracy(),
        "test_accuracy": last and last.accuracy,
        "test_loss": last and last.loss,
        "targets": {f"{target:g}": result.reached_s(target) for target in targets_of(scenario)},
        "updates_accepted": counts.updates_accepted,
        "updates_rejected": counts.updates_dropped + counts.updates_refused,
        "updates_dropped": counts.updates_dropped,
        "updates_refused": counts.updates_refused,
        "mean_tau": counts.tau_sum / counts.updates_accepted if counts.updates_accepted else None,
        "max_tau": counts.tau_max if counts.updates_accepted else None,
        "triggers": counts.triggers,
        "trainings": counts.trainings,
        "fresh_pulls": counts.fresh_pulls,
        "merges": counts.merges,
        "failures": counts.failures,
        "breaks": counts.breaks,
        "bytes_up": counts.bytes_up,
        "bytes_down": counts.bytes_down,
        "num_devices": len(result.devices),
        "utilisation": utilisation(result.devices),
        "classes": by_class(result.devices),
        "devices": _by_device(result.devices),
        "curve": [[at.at_s, at.version, at.accuracy, at.loss] for at in result.curve],
        "wall": _wall(result.wall, data_s),
    }


def targets_of(scenario: Scenario) -> list[float]:
    """The accuracies whose virtual times are reported, ascending: the fleet's, and the stop's."""
    stop = scenario.task.stop.accuracy
    return sorted({*scenario.fleet.run.targets, *([stop] if stop else [])})


def utilisation(devices: Iterable[DeviceCounts]) -> float | None:
    """The share of the time that devices were there in which they trained; None: never there."""
    busy_s = here_s = 0.0
    for device in devices:
        busy_s += device.busy_s
        here_s += device.here_s
    return busy_s / here_s if here_s else None


def by_class(devices: Iterable[DeviceCounts]) -> dict[str, dict[str, Any]]:
    """Each class of devices in numbers."""
    members: dict[str, list[DeviceCounts]] = {}
    for device in devices:
        members.setdefault(device.device_class, []).append(device)
    return {name: _class(members[name]) for name in sorted(members)}


def _class(devices: Sequence[DeviceCounts]) -> dict[str, Any]:
    return {
        "devices": len(devices),
        "trainings": sum(device.trainings for device in devices),
        "updates_accepted": sum(device.updates_accepted for device in devices),
        "busy_s": sum(device.busy_s for device in devices),
        "here_s": sum(device.here_s for device in devices),
        "utilisation": utilisation(devices),
        "bytes_up": sum(device.bytes_up for device in devices),
        "bytes_down": sum(device.bytes_down for device in devices),
    }


def _by_device(devices: Sequence[DeviceCounts]) -> dict[str, dict[str, Any]]:
    """Each device in numbers; none of them where they are too many to list."""
    if len(devices) > MOST_DEVICES:
        return {}
    return {
        device.device_id: {
            "class": device.device_class,
            "link": device.link,
            "trainings": device.trainings,
            "updates_accepted": device.updates_accepted,
            "busy_s": device.busy_s,
            "here_s": device.here_s,
            "bytes_up": device.bytes_up,
            "bytes_down": device.bytes_down,
        }
        for device in devices
    }


def _wall(wall: Wall, data_s: float) -> dict[str, float | int]:
    return {
        "data_s": data_s,
        "train_s": wall.train_s,
        "evaluate_s": wall.evaluate_s,
        "other_s": wall.total_s - wall.train_s - wall.evaluate_s,
        "overhead_fraction": wall.overhead_fraction,
        "events": wall.events,
    }
