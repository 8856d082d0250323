"""A scenario: a task, a fleet and a seed. They decide every bit of a simulation's result."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hocket.core.scheduling import Rounds
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

    Raises TaskError where nothing would surely end it, or task and fleet do not go together.
    """
    _check_size(task, fleet)
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


def _check_size(task: Task, fleet: FleetFile) -> None:
    """A fleet must have the devices that the task counts on."""
    pace, devices = task.pace, fleet.num_devices
    counted = getattr(task.strategy, "devices", devices)
    if counted != devices:
        raise TaskError(
            f"strategy.devices is {counted}, but the fleet has {devices} devices; set it by "
            f"--set strategy.devices={devices}, or in the task file"
        )
    if isinstance(pace, Rounds) and pace.cohort > devices and pace.deadline_s is None:
        raise TaskError(
            f"pace.cohort is {pace.cohort}, but the fleet has {devices} devices: no round would "
            "ever be complete; make it smaller, or set pace.deadline_s"
        )


def _stop(task: Stop, fleet: FleetFile) -> Stop:
    """What the rules must look out for; the fleet's [stop] takes the place of the task's."""
    stop = fleet.stop
    if stop.virtual_s or stop.versions or stop.accuracy:
        chosen = Stop(stop.versions or None, stop.accuracy or None)
    else:
        chosen = task
    if not stop.virtual_s and chosen.versions is None and chosen.wall_s is None:
        reason = "nothing would end the simulation"
        if chosen.accuracy is not None:
            reason = f"an accuracy of {chosen.accuracy:g} may never be reached"
        raise TaskError(
            f"{reason}: set stop.virtual_s or stop.versions in the fleet file, or [stop] in the "
            "task file"
        )
    return chosen
