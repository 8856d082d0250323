"""How long a study will take on this machine, by what a short run of it has taken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hocket.core.scheduling import Concurrent, Periodic
from hocket.sim.scenario import Scenario
from hocket.sim.study.jobs import Job, Row
from hocket.sim.study.scenarios import scenario_for

GUESSED_EXAMPLES = 100
"""Held by each device, where the fleet file does not say: only the order of jobs hangs on it."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What this machine needs for one dataset."""

    training_s: float  # one device's local epochs, merges included
    evaluation_s: float

    @classmethod
    def of(cls, row: Row) -> Speed:
        """As a run has measured it."""
        return cls(row.train_s / max(1, row.trainings), row.evaluate_s / max(1, len(row.curve)))


UNKNOWN = Speed(1.0, 1.0)
"""Without a measurement times are only good for comparing jobs with each other."""


@dataclass(frozen=True, slots=True)
class Foretold:
    """What a job is expected to take."""

    trainings: float
    evaluations: float
    wall_s: float


def foretell(job: Job, speeds: Mapping[str, Speed]) -> Foretold:
    """What a job of a dataset will take at the dataset's speed. Raises TaskError."""
    scenario = scenario_for(job)
    speed = speeds.get(job.dataset, UNKNOWN)
    virtual_s = scenario.virtual_s or 0.0
    number = trainings(scenario)
    every_s = scenario.fleet.evaluation.every_s
    evaluations = virtual_s / every_s if every_s else 0.0
    wall_s = number * speed.training_s + evaluations * speed.evaluation_s
    return Foretold(number, evaluations, wall_s)


def trainings(scenario: Scenario) -> float:
    """About how many devices will train within the horizon, by the pace and the fleet's speed."""
    virtual_s = scenario.virtual_s or 0.0
    match scenario.task.pace:
        case Periodic(period_s=period_s, triggers=triggers):
            return virtual_s / period_s * triggers
        case Concurrent(devices=devices):
            return virtual_s / device_s(scenario) * devices
        case rounds:
            slowest_s = max(_device_s(scenario))
            round_s = slowest_s if rounds.deadline_s is None else min(slowest_s, rounds.deadline_s)
            return virtual_s / round_s * rounds.wanted


def device_s(scenario: Scenario) -> float:
    """Virtual seconds that a device of the mean class trains."""
    seconds = _device_s(scenario)
    shares = [known.share for known in scenario.fleet.all_classes]
    return sum(s * share for s, share in zip(seconds, shares, strict=True)) / sum(shares)


def left_s(pending: Iterable[Foretold], *, measured: float, lanes: int) -> float:
    """Wall seconds until all is done; `measured` seconds were taken for each one foretold."""
    return sum(job.wall_s for job in pending) * measured / lanes


def _device_s(scenario: Scenario) -> list[float]:
    """Virtual seconds of one training at full width, class by class."""
    training = scenario.task.training
    examples = scenario.fleet.examples_per_device or GUESSED_EXAMPLES
    steps = training.local_epochs * math.ceil(examples / training.batch_size)
    batch = min(training.batch_size, examples)
    return [
        steps * known.lines[0].step_s(batch) + known.overhead_s
        for known in scenario.fleet.all_classes
    ]
