"""A scenario: a task, a fleet and a seed. They decide every bit of a simulation's result."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hocket.core.stop import Stop
from hocket.errors import TaskError
from hocket.sim.fleet import FleetFile
from hocket.task import Task


@dataclass(frozen=True)
class Scenario:
    """What is simulated. Make it by `scenario_of`, so that the fleet's word goes before the task's.

    `task` is as it is carried out: of this scenario's seed, with the fleet's [skew], [evaluation]
    and [stop].
    """

    task: Task
    fleet: FleetFile
    seed: int
    data_seed: int  # which examples there are and which are held out: the same for every seed

    @property
    def virtual_s(self) -> float | None:
        """When the simulation ends at the latest; None: at no given time."""
        return self.fleet.stop.virtual_s or None


def scenario_of(task: Task, fleet: FleetFile, *, seed: int | None = None) -> Scenario:
    """The scenario of a task on a fleet, by the fleet's own seed if none is given.

    Raises TaskError where nothing would ever end it.
    """
    chosen = fleet.seed if seed is None else seed
    evaluation = task.evaluation
    if fleet.evaluation.examples is not None:
        evaluation = replace(evaluation, limit=fleet.evaluation.examples)
    carried_out = replace(
        task,
        seed=chosen,
        partition=task.partition if fleet.skew is None else fleet.skew,
        evaluation=evaluation,
        stop=_stop(task.stop, fleet),
    )
    return Scenario(carried_out, fleet, chosen, task.seed)


def _stop(task: Stop, fleet: FleetFile) -> Stop:
    """What the rules must look out for; the fleet's [stop] takes the place of the task's."""
    stop = fleet.stop
    if stop.virtual_s or stop.versions or stop.accuracy:
        return Stop(stop.versions or None, stop.accuracy or None)
    if task == Stop():
        raise TaskError(
            "nothing would end the simulation: set stop.virtual_s, stop.versions or stop.accuracy "
            "in the fleet file, or [stop] in the task file"
        )
    return task
