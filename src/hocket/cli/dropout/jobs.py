"""One dropout vector in one stage of a search: what decides its trials, and what they came to.

No torch here: the process that hands jobs out needs none for them.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from hocket.cli.dropout.settings import Measure, Settings
from hocket.errors import CorruptState, StartupError
from hocket.sim.study.jobs import Made, canonical, digest_of_text

FORMAT = 1
Stage = Literal["search", "front", "proof"]
STAGES: tuple[Stage, ...] = ("search", "front", "proof")
"""Each has seeds of its own, and held-out examples that no other one sees."""


@dataclass(frozen=True, slots=True)
class Common:
    """What decides all trials of a search. Files count by what they say, not where they lie."""

    task: str  # digest of what the task says of model, data and training
    model: str  # digest of the model's manifest
    seed: int
    steps: int  # mini-batches of a trial
    training_steps: int  # of the training of which the snapshots are taken
    snapshots: tuple[float, ...]  # shares of it
    examples: int  # of the task's training part, at most: half to learn from, a sixth a stage

    @classmethod
    def of(cls, settings: Settings, task: str, model: str) -> Common:
        """Of a search's settings, with digests of the task and of the model's manifest."""
        return cls(
            task=task,
            model=model,
            seed=settings.seed,
            steps=settings.steps,
            training_steps=settings.training_steps,
            snapshots=settings.snapshots,
            examples=settings.examples,
        )

    @property
    def snapshot_key(self) -> str:
        """Names the snapshots: the length of a trial does not change them."""
        known = {name: value for name, value in asdict(self).items() if name != "steps"}
        return digest_of_text(canonical({"format": FORMAT} | known))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker finds things. It decides nothing."""

    task_file: str | None  # None: the built-in task
    snapshot_file: str
    data_folders: tuple[str, ...] = ()
    code_folders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """A dropout vector to try, by the channels that it keeps of each group."""

    common: Common
    stage: Stage
    seeds: int  # trials from each snapshot
    sizes: tuple[int, ...]
    place: Place = field(compare=False)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides its row."""
        return {
            "format": FORMAT,
            "common": asdict(self.common),
            "stage": self.stage,
            "seeds": self.seeds,
            "sizes": self.sizes,
        }

    @property
    def key(self) -> str:
        """Names the job: other settings, another key."""
        return digest_of_text(canonical(self.settings))


@dataclass(frozen=True, slots=True)
class Row:
    """What its trials came to, by seed and, within a seed, by snapshot."""

    decreases: tuple[tuple[float, ...], ...]  # of the held-out loss
    gains: tuple[tuple[float, ...], ...]  # of the held-out accuracy
    wall_s: float
    made: Made | None = field(default=None, compare=False)

    def by_seed(self, measure: Measure) -> tuple[float, ...]:
        """The mean over the snapshots."""
        found = self.decreases if measure == "loss" else self.gains
        return tuple(fmean(trials) for trials in found)

    def score(self, measure: Measure) -> float:
        """C, the mean over all trials."""
        return fmean(self.by_seed(measure))


@dataclass(frozen=True, slots=True)
class JobFiles:
    """A folder with one file for each job that was run to its end."""

    folder: Path

    def read(self, job: Job) -> Row | None:
        """What the job came to, if it was run. Raises CorruptState for a damaged file."""
        file = self._file(job)
        return _read(file, job) if file.exists() else None

    def write(self, job: Job, row: Row) -> None:
        """Keep a row, whole or not at all. Raises StartupError where that cannot be."""
        file = self._file(job)
        partial = file.with_suffix(".partial")
        document = {"settings": job.settings, "row": asdict(row)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
            partial.replace(file)
        except OSError as cause:
            raise StartupError(
                f"{file} cannot be written: {cause.strerror}; choose another folder with --out"
            ) from cause

    def _file(self, job: Job) -> Path:
        return self.folder / f"{job.key}.json"


def _read(file: Path, job: Job) -> Row:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))["row"]
        made = known["made"]
        row = Row(
            decreases=_trials(known["decreases"], job),
            gains=_trials(known["gains"], job),
            wall_s=float(known["wall_s"]),
            made=None if made is None else Made(**made),
        )
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise CorruptState(
            f"{file} is no job of this search ({cause}); remove the file, and the job is run again"
        ) from cause
    return row


def _trials(found: list[list[float]], job: Job) -> tuple[tuple[float, ...], ...]:
    """Raises ValueError unless there is a finite number for each trial of the job."""
    trials = tuple(tuple(map(float, one)) for one in found)
    wanted = [len(job.common.snapshots)] * job.seeds
    if [len(one) for one in trials] != wanted:
        raise ValueError("it has not a number for each trial")
    if not all(math.isfinite(value) for one in trials for value in one):
        raise ValueError("a trial is no finite number")
    return trials
