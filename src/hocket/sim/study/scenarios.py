"""From a job's settings to the scenario that they mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hocket.sim.fleet import FleetFile, read_fleet
from hocket.sim.fleet.file import EvaluationTimes, VirtualStop
from hocket.sim.scenario import Scenario, scenario_of
from hocket.sim.study.jobs import Job, Settings
from hocket.task import Task, default_task, load_task


def scenario_for(job: Job) -> Scenario:
    """What a job simulates. Raises TaskError, as the files' readers do."""
    settings = job.settings
    fleet = fleet_for(read_fleet(job.fleet_file), settings)
    return scenario_of(_task(job), fleet, seed=settings.seed)


def fleet_for(fleet: FleetFile, settings: Settings) -> FleetFile:
    """The fleet with what the settings say otherwise. Raises TaskError."""
    changes: dict[str, Any] = {"run": replace(fleet.run, device=settings.device, record=False)}
    if settings.devices is not None:
        changes["devices"] = settings.devices
    if settings.examples_per_device is not None:
        changes["examples_per_device"] = settings.examples_per_device
    if settings.virtual_s is not None:
        changes["stop"] = VirtualStop(virtual_s=settings.virtual_s)
    every_s = settings.evaluate_every_s or fleet.evaluation.every_s
    examples = settings.test_examples or fleet.evaluation.examples
    return replace(fleet, evaluation=EvaluationTimes(every_s, examples), **changes)


def _task(job: Job) -> Task:
    changes = job.settings.changes
    if job.task_file is None:
        return default_task(changes)
    return load_task(
        job.task_file,
        data_folders=[Path(folder) for folder in job.data_folders],
        code_folders=[Path(folder) for folder in job.code_folders],
        changes=changes,
    )
