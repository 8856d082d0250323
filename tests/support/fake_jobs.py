"""Jobs that simulate nothing: what comes of one is told by its settings alone. No torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hocket.cli.compare.engine import Told, Work
from hocket.cli.compare.worker import outcome_of
from hocket.errors import DataError
from hocket.sim.study.jobs import Evaluated, Job, Row, Settings

JOB = Job(
    dataset="digits",
    method="FedBuff",
    purpose="report",
    point=0,
    settings=Settings("task", "fleet", {"strategy.kind": "fedbuff"}, seed=11),
    fleet_file="fleet.toml",
    task_file=None,
)


def row(*accuracies: float, every_s: float = 10.0, bytes_up: int = 1000, versions: int = 5) -> Row:
    """A run with these evaluations, the first at `every_s`."""
    curve = tuple(
        Evaluated(every_s * number, number, accuracy, 1.0 - accuracy)
        for number, accuracy in enumerate(accuracies, start=1)
    )
    return Row(
        curve=curve,
        virtual_s=every_s * len(curve),
        versions=versions,
        trainings=7,
        updates_accepted=6,
        updates_dropped=1,
        failures=0,
        mean_tau=1.5,
        merges=2,
        bytes_up=bytes_up,
        bytes_down=3000,
        digest="d1",
        reason="over",
        wall_s=4.0,
        train_s=3.0,
        evaluate_s=0.5,
    )


def seeded(seed: int, **changes: Any) -> Job:
    """A job of another seed, and other changes to the task."""
    settings = replace(JOB.settings, seed=seed, changes={**JOB.settings.changes, **changes})
    return replace(JOB, settings=settings)


def told_by_settings(job: Job) -> Row:
    """Better with a larger learning rate and a larger seed; fails at a learning rate of 9."""
    rate = job.settings.changes.get("training.learning_rate", 0.1)
    if rate == 9:
        raise DataError("diverged")
    return row(0.1, 0.2, 0.3 + rate + job.settings.seed / 1000)


def steady() -> Work[Job, Row]:
    """For worker processes: works."""
    return told_by_settings


def crashing() -> Work[Job, Row]:
    """For worker processes: a job of seed 1 kills its worker once, one of seed 2 each time.

    What has happened is noted beside the job's fleet file.
    """
    return _crash


def _crash(job: Job) -> Row:
    seed = job.settings.seed
    note = Path(job.fleet_file).with_name(f"crashed-{seed}")
    if seed == 2 or (seed == 1 and not note.exists()):
        note.touch()
        os._exit(3)
    if seed == 3:
        raise ZeroDivisionError("a bug")
    return told_by_settings(job)


class Inline:
    """An engine in this very process, which notes what it was given."""

    lanes = 1

    def __init__(self, *, interrupted_after: int | None = None) -> None:
        self.ran: list[str] = []
        self._interrupted_after = interrupted_after

    def run(self, jobs: Sequence[Job], told: Told[Job, Row]) -> None:
        """See Engine."""
        for job in jobs:
            if len(self.ran) == self._interrupted_after:
                raise KeyboardInterrupt
            self.ran.append(job.name)
            told(job, outcome_of(job, told_by_settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass
