"""Runs one job. It reads no clock: a stopwatch is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hocket.learn.data import Examples
from hocket.sim.preparing import Prepared, prepare, read_examples
from hocket.sim.result import Result
from hocket.sim.scenario import Scenario
from hocket.sim.shards import read_held_out
from hocket.sim.simulation import Simulation
from hocket.sim.study.jobs import Evaluated, Job, Row
from hocket.sim.study.scenarios import scenario_for

CACHED = 4  # parts of data sets: those to learn from and to judge by, of two


class JobRunner:
    """Runs jobs one after another, and reads no data twice.

    Args:
        stopwatch: seconds of the machine's own time; only differences mean anything.
    """

    def __init__(self, stopwatch: Callable[[], float]) -> None:
        self._stopwatch = stopwatch
        self._parts: dict[str, Examples] = {}

    def __call__(self, job: Job) -> Row:
        """What the job comes to. Raises TaskError, DataError, ModelError or InvalidRequest."""
        began_s = self._stopwatch()
        prepared = self._prepare(scenario_for(job))
        result = Simulation(prepared, stopwatch=self._stopwatch).run()
        return row_of(result, wall_s=self._stopwatch() - began_s)

    def _prepare(self, scenario: Scenario) -> Prepared:
        task, fleet, seed = scenario.task, scenario.fleet, scenario.data_seed
        size = fleet.examples_per_device, fleet.num_shards
        pool = self._part(
            ("pool", task.data, task.origin.lookup, seed, size),
            lambda: read_examples(scenario),
        )
        held_out = self._part(
            ("held out", task.data, task.origin.lookup, seed, task.evaluation.limit),
            lambda: read_held_out(task, data_seed=seed),
        )
        return prepare(scenario, pool=pool, held_out=held_out)

    def _part(self, named: tuple[Any, ...], read: Callable[[], Examples]) -> Examples:
        key = repr(named)
        found = self._parts.pop(key, None)
        self._parts[key] = read() if found is None else found  # last in line to be forgotten
        while len(self._parts) > CACHED:
            self._parts.pop(next(iter(self._parts)))
        return self._parts[key]


def row_of(result: Result, *, wall_s: float) -> Row:
    """A result in numbers."""
    counts, wall = result.counts, result.wall
    return Row(
        curve=tuple(
            Evaluated(point.at_s, point.version, point.accuracy, point.loss)
            for point in result.curve
        ),
        virtual_s=result.virtual_s,
        versions=result.newest.version,
        trainings=counts.trainings,
        updates_accepted=counts.updates_accepted,
        updates_dropped=counts.updates_dropped,
        failures=counts.failures,
        mean_tau=counts.tau_sum / max(1, counts.updates_accepted),
        merges=counts.merges,
        bytes_up=counts.bytes_up,
        bytes_down=counts.bytes_down,
        digest=result.digest,
        reason=result.reason,
        wall_s=wall_s,
        train_s=wall.train_s,
        evaluate_s=wall.evaluate_s,
    )
