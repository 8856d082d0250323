"""A study from its first job to its findings. How jobs are run is somebody else's business."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hocket.sim.study.jobs import Failure, Job, Outcome, Row
from hocket.sim.study.planning import Chosen, Plan
from hocket.sim.study.results import Runs, Table, rows_of, tabulate, targets_of
from hocket.sim.study.study import Dataset, Study
from hocket.sim.study.tuning import choose, score

Run = Callable[[Sequence[Job]], Mapping[str, Outcome]]
"""Runs jobs; what each came to, by its key."""
GAP_S = 60.0
"""Between jobs of one run of the command; a longer one is a time in which nobody ran it."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """How one method's point was chosen on one dataset."""

    dataset: str
    method: str
    points: tuple[Mapping[str, Any], ...]
    scores: tuple[float | None, ...]  # None: the run failed
    chosen: int | None
    keys: tuple[str, ...]  # of the points' jobs; two points may come to one
    trainings: int  # that all of these jobs took

    @property
    def distinct(self) -> tuple[int, ...]:
        """The points that are jobs of their own: of those that are the same, the first."""
        return tuple(at for at, key in enumerate(self.keys) if key not in self.keys[:at])


@dataclass(frozen=True, slots=True)
class Findings:
    """What a study came to."""

    plan: Plan
    tuned: tuple[Tuned, ...]
    runs: Mapping[str, Mapping[str, Mapping[int, Row]]]  # by dataset, method and seed
    settings: Mapping[str, Mapping[str, Mapping[str, Any]]]  # changes, by dataset and method
    failures: tuple[tuple[Job, str], ...]  # and why
    tables: tuple[Table, ...]
    contrasts: tuple[Table, ...]
    ran: Mapping[str, Row]  # every job that ended well, tuned or reported, by its key

    @property
    def told(self) -> tuple[Table, ...]:
        """Everything of which sentences are made."""
        return (*self.tables, *self.contrasts)

    @property
    def process_s(self) -> float:
        """Machine time of all jobs, summed."""
        return sum(row.wall_s for row in self.ran.values())

    @property
    def wall_s(self) -> float | None:
        """From the first job's start to the last one's end; None where a job has no times.

        A gap of over a minute, in which no job ran, is left out.
        """
        return measured_s(self.ran.values())

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One JSON row for each dataset, method, seed and target."""
        return [
            row
            for table in self.tables
            for row in rows_of(table, self.runs[table.dataset], self.settings[table.dataset])
        ]


def measured_s(rows: Collection[Row]) -> float | None:
    """Seconds in which some of the jobs were running, with gaps of up to GAP_S between them."""
    spans = []
    for row in rows:
        if row.made is None:
            return None
        end_s = row.made.finished_unix_s
        spans.append((end_s - row.wall_s, end_s))
    total_s, until_s = 0.0, -math.inf
    for start_s, end_s in sorted(spans):
        begun_s = until_s if start_s - until_s <= GAP_S else start_s
        total_s += max(0.0, end_s - begun_s)
        until_s = max(until_s, end_s)
    return total_s


def sweep(plan: Plan, run: Run) -> Findings:
    """Tune, choose, run what is reported, and put it side by side."""
    tuning = plan.tuning_jobs()
    outcomes = dict(run(tuning))
    tuned = _tuned(plan, tuning, outcomes)
    chosen: Chosen = {(one.dataset, one.method): one.chosen for one in tuned}
    report = plan.report_jobs(chosen)
    outcomes |= run(report)
    runs: dict[str, dict[str, dict[int, Row]]] = {}
    settings: dict[str, dict[str, Mapping[str, Any]]] = {}
    for job in report:
        outcome = outcomes[job.settings.key]
        settings.setdefault(job.dataset, {})[job.method] = job.settings.changes
        if isinstance(outcome, Row):
            rows = runs.setdefault(job.dataset, {}).setdefault(job.method, {})
            rows[job.settings.seed] = outcome
    jobs = {job.settings.key: job for job in (*tuning, *report)}
    tables = tuple(
        _table(plan, dataset, runs[dataset.name])
        for dataset in plan.datasets
        if dataset.name in runs
    )
    return Findings(
        plan=plan,
        tuned=tuple(tuned),
        runs=runs,
        settings=settings,
        failures=tuple(
            (jobs[key], outcome.message)
            for key, outcome in outcomes.items()
            if isinstance(outcome, Failure)
        ),
        tables=tables,
        contrasts=tuple(_contrasts(plan.study, tables, runs)),
        ran={key: row for key, row in outcomes.items() if isinstance(row, Row)},
    )


def _tuned(plan: Plan, jobs: Sequence[Job], outcomes: Mapping[str, Outcome]) -> list[Tuned]:
    by_method: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        by_method.setdefault((job.dataset, job.method), []).append(job)
    last = plan.study.tuning.last
    found = []
    for (dataset, method), mine in by_method.items():
        keys = tuple(job.settings.key for job in mine)
        results = [outcomes[key] for key in keys]
        unique = {key: outcomes[key] for key in keys}.values()
        found.append(
            Tuned(
                dataset,
                method,
                plan.points(plan.study.method(method)),
                tuple(score(result, last) for result in results),
                choose(results, last),
                keys,
                sum(result.trainings for result in unique if isinstance(result, Row)),
            )
        )
    return found


def _table(plan: Plan, dataset: Dataset, runs: Mapping[str, Mapping[int, Row]]) -> Table:
    study = plan.study
    targets = dataset.targets or targets_of(runs, study.targets)
    variants = [known.name for known in study.methods if known.follows == study.compared]
    return tabulate(dataset.name, runs, study.compared, targets, variants, study.claims)


def _contrasts(study: Study, tables: Iterable[Table], runs: Mapping[str, Runs]) -> Iterator[Table]:
    """Of each contrast whose method and at least one other have run, by the targets of all."""
    for table in tables:
        known = runs[table.dataset]
        for contrast in study.contrasts:
            named = (contrast.method, *contrast.against)
            some = {name: known[name] for name in named if name in known}
            claims, targets = contrast.claims, table.targets
            found = tabulate(table.dataset, some, contrast.method, targets, (), claims)
            if found.compared and len(found.standings) > 1:
                yield found
