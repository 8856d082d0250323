"""The jobs of a study at one scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from hocket.errors import TaskError
from hocket.sim.fleet import FleetFile, read_fleet
from hocket.sim.study.jobs import Job, Purpose, Settings, digest_of_text
from hocket.sim.study.kinds import counting
from hocket.sim.study.study import Dataset, Method, Scale, Study, flat
from hocket.sim.study.tuning import points
from hocket.task import default_task
from hocket.task.changes import layered
from hocket.task.document import read_document

CALIBRATION_S = 80.0
"""Virtual seconds of the run by which the machine's speed is measured."""

PACE = "pace.kind"

Chosen = Mapping[tuple[str, str], int | None]
"""By dataset and method, the point of the grid; None: every one failed."""


@dataclass(frozen=True)
class Plan:
    """A study, and what a person has chosen of it. Raises TaskError as Study does."""

    study: Study
    scale_name: str = ""  # empty: the study as it stands, untuned where it has no grid
    seeds: tuple[int, ...] = ()  # empty: the scale's, else the study's
    device: Literal["cpu", "cuda"] = "cpu"
    data_folders: tuple[str, ...] = ()
    code_folders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.scale_name and self.scale_name not in self.study.scales:
            known = ", ".join(self.study.scales) or "none: the study has no scales"
            raise TaskError(f"there is no scale {self.scale_name!r}; choose {known}")
        self.study.check_seeds("--seeds", self.seeds)
        for method in self.methods:
            if method.follows and method.follows not in {known.name for known in self.methods}:
                raise TaskError(
                    f"method {method.name!r} follows {method.follows!r}, which scale "
                    f"{self.scale_name!r} leaves out; take in both or none"
                )

    @property
    def scale(self) -> Scale:
        """What differs from the study as it stands."""
        return self.study.scales.get(self.scale_name, Scale())

    @property
    def run_seeds(self) -> tuple[int, ...]:
        """Of the reported runs."""
        return self.seeds or self.scale.seeds or self.study.seeds

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """In the study's order."""
        wanted = self.scale.datasets
        return tuple(one for one in self.study.datasets if not wanted or one.name in wanted)

    @property
    def methods(self) -> tuple[Method, ...]:
        """In the study's order."""
        wanted = self.scale.methods
        return tuple(one for one in self.study.methods if not wanted or one.name in wanted)

    def points(self, method: Method) -> tuple[dict[str, Any], ...]:
        """The points among which tuning chooses."""
        return points(self.study, self.scale, method)

    def horizon_s(self, dataset: Dataset) -> float | None:
        """Virtual seconds of a reported run; None: the fleet file says when it ends."""
        return None if dataset.virtual_s is None else dataset.virtual_s * self.scale.horizon

    @property
    def fleets(self) -> tuple[FleetFile, ...]:
        """Of the datasets, as their files have them."""
        return tuple(self._files[dataset.name].fleet for dataset in self.datasets)

    def calibration_jobs(self) -> list[Job]:
        """One short run for each dataset, by the compared method; none without a horizon."""
        name = self.study.compared
        first = next((one for one in self.methods if one.name == name), self.methods[0])
        return [
            self._job(
                dataset,
                first,
                "calibration",
                0,
                self.study.tuning.seed,
                min(1.0, CALIBRATION_S / horizon_s),
            )
            for dataset in self.datasets
            if (horizon_s := self.horizon_s(dataset)) is not None
        ]

    def tuning_jobs(self) -> list[Job]:
        """One for each point of each method that has several to choose from."""
        return list(self._tuning())

    def report_jobs(self, chosen: Chosen) -> list[Job]:
        """One for each dataset, method and seed; none for a method of which no point is left."""
        return [
            self._job(dataset, method, "report", point, seed, 1.0)
            for dataset in self.datasets
            for method in self.methods
            for seed in self.run_seeds
            if (point := chosen.get((dataset.name, method.follows or method.name), 0)) is not None
        ]

    def _tuning(self) -> Iterator[Job]:
        tuning = self.study.tuning
        for dataset in self.datasets:
            for method in self.methods:
                count = len(self.points(method))
                if method.follows or count == 1:
                    continue
                if dataset.virtual_s is None:
                    raise TaskError(
                        f"dataset {dataset.name!r} has no virtual_s; tuning runs a share of it, so "
                        "set it, or leave the grids out"
                    )
                for point in range(count):
                    yield self._job(dataset, method, "tuning", point, tuning.seed, tuning.horizon)

    def _job(
        self, dataset: Dataset, method: Method, purpose: Purpose, point: int, seed: int, part: float
    ) -> Job:
        files = self._files[dataset.name]
        horizon_s = self.horizon_s(dataset)
        devices = self.scale.devices or files.fleet.num_devices
        settings = Settings(
            task=files.task_digest,
            fleet=files.fleet_digest,
            changes=counting(self._changes(dataset, method, point), devices),
            seed=seed,
            virtual_s=None if horizon_s is None else part * horizon_s,
            evaluate_every_s=self._evaluate_every_s(dataset),
            test_examples=self.scale.test_examples or dataset.test_examples,
            devices=self.scale.devices,
            examples_per_device=self.scale.examples_per_device,
            device=self.device,
        )
        return Job(
            dataset=dataset.name,
            method=method.name,
            purpose=purpose,
            point=point,
            settings=settings,
            fleet_file=str(files.fleet.origin),
            task_file=None if files.task is None else str(files.task),
            data_folders=self.data_folders,
            code_folders=self.code_folders,
        )

    def _evaluate_every_s(self, dataset: Dataset) -> float | None:
        """Virtual time between evaluations; None: the fleet file says. Raises TaskError.

        Never by versions: methods make them at different rates, and the last ten evaluations
        would be of another span of time with each.
        """
        fleet = self._files[dataset.name].fleet
        end_s = self.horizon_s(dataset)
        if end_s is None and fleet.evaluation.every_s is not None:
            return None
        end_s = end_s or fleet.stop.virtual_s
        if not end_s:
            raise TaskError(
                f"{fleet.origin} does not say when models are to be judged, and methods are "
                "compared at the same virtual times: set every_s under [evaluation] there, or "
                "virtual_s under [stop]"
            )
        return end_s / (self.scale.evaluations or dataset.evaluations)

    def _changes(self, dataset: Dataset, method: Method, point: int) -> dict[str, Any]:
        leader = self.study.method(method.follows or method.name)
        follower = method.changes if method.follows else {}
        point_chosen = self.points(method)[point]
        below = [self.study.changes, dataset.changes, self.scale.changes, leader.changes]
        if self.scale.rounds and layered(*map(flat, (*below, follower))).get(PACE) == "rounds":
            below.append(self.scale.rounds)
        return layered(*map(flat, (*below, point_chosen, follower)))

    @cached_property
    def _files(self) -> dict[str, _Files]:
        return {dataset.name: self._read(dataset) for dataset in self.datasets}

    def _read(self, dataset: Dataset) -> _Files:
        folder = self.study.origin.parent if self.study.origin else Path.cwd()
        fleet = read_fleet(folder / dataset.fleet)
        task = fleet.task_file if dataset.task is None else folder / dataset.task
        return _Files(fleet, task)


@dataclass(frozen=True)
class _Files:
    """What a dataset's files say."""

    fleet: FleetFile
    task: Path | None

    @cached_property
    def fleet_digest(self) -> str:
        trace = self.fleet.trace_file
        texts = [path.read_text(encoding="utf-8") for path in (self.fleet.origin, trace) if path]
        return digest_of_text("\0".join(texts))

    @cached_property
    def task_digest(self) -> str:
        if self.task is None:
            return digest_of_text(default_task().origin.text)
        return digest_of_text(read_document(self.task.absolute(), "task file")[0])
