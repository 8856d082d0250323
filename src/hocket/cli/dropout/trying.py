"""What a search's workers do: they try dropout vectors. Needs torch, which takes seconds to import.

Data, model and snapshots are read once in a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hocket.cli.compare.engine import Work
from hocket.cli.dropout.jobs import STAGES, Common, Job, Place, Row, Stage
from hocket.core.chance import stream_seed
from hocket.errors import CorruptState, DataError
from hocket.learn.data import Examples, load
from hocket.learn.data.source import sample
from hocket.learn.flat import flatten
from hocket.learn.layout import laid_out, layout_for
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import ChannelGraph
from hocket.learn.submodels.search.scoring import Scorer, snapshots
from hocket.sim.study.jobs import canonical, digest_of_text
from hocket.task import Task, default_task, load_task

PURPOSE = "dropout-search"
SHARES = 6  # parts of the examples: three to learn from, one for each stage to judge by
FEWEST = 2 * SHARES


@dataclass(frozen=True, slots=True)
class Material:
    """A task as a search sees it."""

    task: Task
    module: nn.Module
    graph: ChannelGraph
    first: Tensor  # the model's first values
    learning: Examples
    judging: dict[Stage, Examples]


def read_task(place: Place) -> Task:
    """The task of a search. Raises TaskError."""
    if place.task_file is None:
        return default_task()
    return load_task(
        place.task_file,
        data_folders=[Path(folder) for folder in place.data_folders],
        code_folders=[Path(folder) for folder in place.code_folders],
    )


def task_digest(task: Task) -> str:
    """Of what decides a trial: a task may name its table later, or change its strategy."""
    known = (task.model, task.data, task.training)
    return digest_of_text(canonical({"seed": task.seed, "tables": [asdict(one) for one in known]}))


def gather(task: Task, most_examples: int) -> Material:
    """Build the model, read the data and deal it out.

    The task's held-out examples are not touched: what a search chooses may be judged by them.
    Raises ModelError for a model of which nothing can be dropped, DataError.
    """
    module = task.build_model()
    graph = channel_graph(module)
    if not graph.groups:
        raise graph.nothing()
    read = load(
        task.data,
        "train",
        seed=task.seed,
        lookup=task.origin.lookup,
        choose=lambda labels: sample(len(labels), most_examples, task.seed, PURPOSE),
    )
    if len(read) < FEWEST:
        raise DataError(
            f"the {task.data.kind} data has {len(read)} examples to learn from; a search wants "
            f"{FEWEST} at least, to learn from and to judge by"
        )
    task.check_fit(module, read)
    read = laid_out(read, layout_for(module, read.input_shape))
    chance = torch.Generator().manual_seed(stream_seed(task.seed, PURPOSE))
    order = torch.randperm(len(read), generator=chance)
    part = len(read) // SHARES
    judging = {
        stage: read.take(order[number * part : (number + 1) * part])
        for number, stage in enumerate(STAGES)
    }
    learning = read.take(order[len(STAGES) * part :])
    return Material(task, module, graph, flatten(module), learning, judging)


def make_snapshots(material: Material, common: Common) -> tuple[Tensor, ...]:
    """The models from which all trials of a search start. Raises NotFinite."""
    return snapshots(
        material.module,
        material.first,
        material.learning,
        material.task.training,
        steps=common.training_steps,
        at=common.snapshots,
        seed=stream_seed(common.seed, PURPOSE),
    )


def write_snapshots(file: Path, found: tuple[Tensor, ...]) -> None:
    """Write them, whole or not at all. Raises OSError."""
    partial = file.with_suffix(".partial")
    save_file({str(number): tensor for number, tensor in enumerate(found)}, partial)
    partial.replace(file)


def read_snapshots(file: Path, count: int, size: int) -> tuple[Tensor, ...]:
    """Read them. Raises CorruptState."""
    try:
        known = load_file(file)
        found = tuple(known[str(number)] for number in range(count))
        if any(tensor.shape != (size,) for tensor in found):
            raise ValueError("of another model")  # noqa: TRY301 - told just below
    except (OSError, SafetensorError, KeyError, ValueError) as cause:
        raise CorruptState(
            f"{file} holds no snapshots of this search ({cause}); remove the file and start again"
        ) from cause
    return found


@dataclass(frozen=True, slots=True)
class Trier:
    """Carries jobs out.

    Args:
        material: of the search.
        stopwatch: seconds; only differences mean anything.
    """

    material: Material
    stopwatch: Callable[[], float]
    _scorers: dict[str, Scorer] = field(default_factory=dict)

    def __call__(self, job: Job) -> Row:
        """What its trials come to. Raises CorruptState or NotFinite."""
        began_s = self.stopwatch()
        scorer = self._scorer(job)
        judges = self.material.judging[job.stage]
        trials = [
            [
                scorer.trial(
                    job.sizes,
                    snapshot,
                    stream_seed(job.common.seed, PURPOSE, job.stage, seed, snapshot),
                    judges,
                    job.stage,
                )
                for snapshot in range(len(job.common.snapshots))
            ]
            for seed in range(job.seeds)
        ]
        return Row(
            decreases=tuple(tuple(trial.decrease for trial in one) for one in trials),
            gains=tuple(tuple(trial.gain for trial in one) for one in trials),
            wall_s=self.stopwatch() - began_s,
        )

    def _scorer(self, job: Job) -> Scorer:
        key = f"{job.common.snapshot_key} {job.common.steps}"
        if key not in self._scorers:
            known = self.material
            self._scorers[key] = Scorer(
                known.module,
                known.graph,
                known.task.training,
                known.learning,
                read_snapshots(
                    Path(job.place.snapshot_file),
                    len(job.common.snapshots),
                    known.graph.manifest.size,
                ),
                job.common.steps,
            )
        return self._scorers[key]


@cache
def trying(place: Place, most_examples: int) -> Work[Job, Row]:
    """The work of a search, one torch thread each. Raises TaskError, ModelError or DataError."""
    torch.set_num_threads(1)
    return Trier(gather(read_task(place), most_examples), time.perf_counter)
