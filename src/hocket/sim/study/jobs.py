"""One simulation of a study: the settings that decide it, what it came to, and its file.

No torch here: the process that hands jobs out needs none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import xxhash

from hocket.errors import CorruptState, StartupError

FORMAT = 1
Purpose = Literal["calibration", "tuning", "report"]


@dataclass(frozen=True, slots=True)
class Settings:
    """All that decides a simulation's result. Files count by what they say, not where they lie."""

    task: str  # digest of the task file's text
    fleet: str  # digest of the fleet file's text, and of the trace that it names
    changes: Mapping[str, Any]  # dotted keys of the task
    seed: int
    virtual_s: float | None = None  # None: the fleet's own [stop]
    evaluate_every_s: float | None = None  # None: as the fleet has it
    test_examples: int | None = None
    devices: int | None = None
    examples_per_device: int | None = None
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def key(self) -> str:
        """Names the job: other settings, another key."""
        return digest_of_text(canonical({"format": FORMAT} | asdict(self)))


@dataclass(frozen=True, slots=True)
class Job:
    """A simulation to run, and whose it is. The label and the paths decide nothing."""

    dataset: str
    method: str
    purpose: Purpose
    point: int  # of the method's grid
    settings: Settings
    fleet_file: str
    task_file: str | None  # None: the built-in task
    data_folders: tuple[str, ...] = ()
    code_folders: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Of its settings."""
        return self.settings.key

    @property
    def name(self) -> str:
        """For people."""
        point = f" point {self.point + 1}" if self.purpose == "tuning" else ""
        return f"{self.dataset} {self.method} {self.purpose}{point} seed {self.settings.seed}"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation."""

    at_s: float  # of virtual time
    version: int
    accuracy: float
    loss: float


@dataclass(frozen=True, slots=True)
class Made:
    """By what a row was made, and when. It names no job: the same settings are the same job."""

    code: str  # the checkout's commit, a + where files differ from it; else Hocket's version
    torch: str
    machine: str
    finished_unix_s: float  # since 1970, UTC

    def __post_init__(self) -> None:
        if not math.isfinite(self.finished_unix_s):
            raise ValueError(f"finished_unix_s is {self.finished_unix_s}, which is no time")


@dataclass(frozen=True, slots=True)
class Row:
    """What a simulation came to."""

    curve: tuple[Evaluated, ...]  # by time
    virtual_s: float
    versions: int
    trainings: int
    updates_accepted: int
    updates_dropped: int
    failures: int  # trainings that diverged
    mean_tau: float
    merges: int
    bytes_up: int
    bytes_down: int
    digest: str  # of the last model
    reason: str  # why it ended
    wall_s: float  # of the machine, reading the data included
    train_s: float  # of that in training
    evaluate_s: float
    made: Made | None = field(default=None, compare=False)  # None: not recorded

    def accuracy(self, last: int = 10) -> float | None:
        """Mean over the last evaluations; None without any."""
        tail = [point.accuracy for point in self.curve[-last:]]
        return sum(tail) / len(tail) if tail else None

    def reached_s(self, accuracy: float) -> float | None:
        """The virtual time of the first evaluation that was at least as good; None: never."""
        return next((point.at_s for point in self.curve if point.accuracy >= accuracy), None)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no row."""

    message: str


Outcome = Row | Failure


@dataclass(frozen=True, slots=True)
class JobFiles:
    """A folder with one file for each job that was run to its end. Failures are not kept."""

    folder: Path
    _known: dict[str, Row] = field(default_factory=dict)

    def read(self, job: Job) -> Row | None:
        """What the job came to, if it was run. Raises CorruptState for a damaged file."""
        key = job.settings.key
        if key not in self._known and (file := self._file(key)).exists():
            self._known[key] = _read(file)
        return self._known.get(key)

    def write(self, job: Job, row: Row) -> None:
        """Keep a row, whole or not at all. Raises StartupError where that cannot be."""
        key = job.settings.key
        numbers = asdict(row)
        made = numbers.pop("made")  # beside the row: older readers of the file pass over it
        document = {"format": FORMAT, "settings": asdict(job.settings), "row": numbers}
        if made is not None:
            document["made"] = made
        file = self._file(key)
        partial = file.with_suffix(".partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
            partial.replace(file)
        except OSError as cause:
            raise StartupError(
                f"{file} cannot be written: {cause.strerror}; choose another folder with --out"
            ) from cause
        self._known[key] = row

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def canonical(document: Mapping[str, Any]) -> str:
    """JSON that is the same for the same settings."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)


def digest_of_text(text: str) -> str:
    """A short name for a text."""
    return xxhash.xxh3_64_hexdigest(text.encode())


def _read(file: Path) -> Row:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        known, made = document["row"], document.get("made")
        curve = tuple(Evaluated(**point) for point in known.pop("curve"))
        if set(known) | {"curve", "made"} != {part.name for part in fields(Row)}:
            raise ValueError("it has not the fields of a row")  # noqa: TRY301 - told just below
        return Row(curve=curve, **known, made=None if made is None else Made(**made))
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise CorruptState(
            f"{file} is no job of this study ({cause}); remove the file, and the job is run again"
        ) from cause
