"""Carries jobs out: those that were run before are read, the rest run, the longest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hocket.cli.compare.engine import Engine
from hocket.cli.compare.progress import STAGES, Shown
from hocket.cli.output import in_time
from hocket.errors import TaskError
from hocket.sim.study.foretelling import Foretold, Speed, foretell, left_s
from hocket.sim.study.jobs import Job, JobFiles, Outcome, Row
from hocket.sim.study.planning import Plan


@dataclass
class Carrier:
    """Runs the jobs of one plan. Raises TaskError for a job whose settings are wrong."""

    plan: Plan
    files: JobFiles
    engine: Engine[Job, Row]
    shown: Shown
    speeds: dict[str, Speed] = field(default_factory=dict)
    _taken_s: float = 0.0  # by the jobs run so far,
    _foretold_s: float = 0.0  # and what they were expected to take

    def check(self) -> None:
        """Read every file and every point before anything is run. Raises TaskError."""
        for job in self._all_jobs():
            try:
                foretell(job, self.speeds)
            except TaskError as error:
                raise TaskError(f"{job.name}: {error.message}") from error

    def calibrate(self) -> None:
        """Measure this machine by a short run of each data set; say what the study will take."""
        jobs = self.plan.calibration_jobs()
        if not jobs or not self._pending(self._all_jobs()):
            return
        outcomes = self(jobs)
        for job in jobs:
            row = outcomes[job.settings.key]
            if isinstance(row, Row):
                self.speeds[job.dataset] = Speed.of(row)
        self._taken_s = self._foretold_s = 0.0
        self._foretell()

    def __call__(self, jobs: Sequence[Job]) -> Mapping[str, Outcome]:
        """What each of the jobs came to, by its key."""
        unique = {job.settings.key: job for job in jobs}
        outcomes: dict[str, Outcome] = {}
        for key, job in unique.items():
            if (row := self.files.read(job)) is not None:
                outcomes[key] = row
        pending = {key: foretell(unique[key], self.speeds) for key in unique.keys() - outcomes}
        if not unique:
            return outcomes
        self.shown.stage(STAGES[jobs[0].purpose], len(unique), len(outcomes))
        later = self._later(jobs[0])

        def told(job: Job, outcome: Outcome) -> None:
            key = job.settings.key
            outcomes[key] = outcome
            if isinstance(outcome, Row):
                self.files.write(job, outcome)
                self._taken_s += outcome.wall_s
                self._foretold_s += pending[key].wall_s
            del pending[key]
            self.shown.ended(job, outcome, self._left_s([*pending.values(), *later]))

        longest_first = sorted(pending, key=lambda key: (-pending[key].wall_s, key))
        self.engine.run([unique[key] for key in longest_first], told)
        return {key: outcomes[key] for key in unique}

    def _left_s(self, pending: Sequence[Foretold]) -> float:
        ratio = self._taken_s / self._foretold_s if self._foretold_s else 1.0
        return left_s(pending, measured=ratio, lanes=self.engine.lanes)

    def _later(self, job: Job) -> list[Foretold]:
        """What comes after the stage of this job."""
        if job.purpose == "report" or not self.speeds:
            return []
        jobs = self._pending(self.plan.report_jobs({}))
        return [foretell(one, self.speeds) for one in jobs]

    def _all_jobs(self) -> list[Job]:
        """Those to report as if every method took its first point: as many, and as long."""
        return [*self.plan.tuning_jobs(), *self.plan.report_jobs({})]

    def _pending(self, jobs: Sequence[Job]) -> list[Job]:
        return [job for job in jobs if self.files.read(job) is None]

    def _foretell(self) -> None:
        """The arithmetic of the whole study, those parts included that were run before."""
        total_s = 0.0
        for dataset in self.plan.datasets:
            speed = self.speeds.get(dataset.name)
            if speed is None:
                continue
            jobs = [job for job in self._all_jobs() if job.dataset == dataset.name]
            known = [foretell(job, self.speeds) for job in jobs]
            sum_s = sum(job.wall_s for job in known)
            total_s += sum_s
            self.shown.say(
                f"{dataset.name}: {len(jobs)} runs, {sum(job.trainings for job in known):.0f} "
                f"trainings of {1e3 * speed.training_s:.0f} ms and "
                f"{sum(job.evaluations for job in known):.0f} evaluations of "
                f"{1e3 * speed.evaluation_s:.0f} ms: {in_time(sum_s)} of one process"
            )
        lanes = self.engine.lanes
        whole_s = total_s / lanes
        self.shown.say(f"in all about {in_time(whole_s)} with {lanes} at a time")
        budget_s = self.plan.scale.wall_s
        if budget_s is not None and whole_s > budget_s:
            self.shown.say(
                f"that is more than the {in_time(budget_s)} this scale is meant to take: fewer "
                "--seeds, a smaller horizon of the scale or a faster machine shorten it"
            )
