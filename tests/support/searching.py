"""A search of dropout vectors small enough for a test: a tiny task, in this very process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from hocket.cli.compare.engine import Told, Work
from hocket.cli.compare.worker import outcome_of
from hocket.cli.dropout.jobs import Job, Row
from hocket.cli.dropout.settings import Settings
from hocket.learn.submodels.search.evolution import Floats

TASK = """
name = "tiny"
seed = 2
[model]
function = "hocket.learn.models:digits_cnn"
[data]
kind = "digits"
limit = 120
[training]
batch_size = 8
learning_rate = 0.05
"""
TINY = Settings(
    population=6,
    generations=2,
    grid=3,
    steps=1,
    seeds=1,
    final_seeds=2,
    training_steps=4,
    snapshots=(0.0, 1.0),
    examples=60,
    seed=4,
)


def zdt1(vectors: Floats) -> Floats:
    """Zitzler, Deb, Thiele 2000: the front is f2 = 1 - sqrt(f1)."""
    first = vectors[:, 0]
    g = 1 + 9 * vectors[:, 1:].mean(axis=1)
    return np.column_stack([first, g * (1 - np.sqrt(first / g))])


class InProcess:
    """An engine without processes, which notes what it was given; Ctrl-C after so many jobs."""

    lanes = 1

    def __init__(
        self, make_work: Callable[[], Work[Job, Row]], interrupted_after: int | None = None
    ) -> None:
        self.ran: list[Job] = []
        self._work = make_work
        self._interrupted_after = interrupted_after

    def run(self, jobs: Sequence[Job], told: Told[Job, Row]) -> None:
        """See Engine."""
        for job in jobs:
            if len(self.ran) == self._interrupted_after:
                raise KeyboardInterrupt
            self.ran.append(job)
            told(job, outcome_of(job, self._work()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


def tiny_task(folder: Path) -> Path:
    """The file of a task that trains a small CNN on a few digits."""
    file = folder / "tiny.toml"
    file.write_text(TASK, encoding="utf-8")
    return file
