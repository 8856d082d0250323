"""A task: which model is trained on which data, by which rules, until when."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from torch import Tensor, nn

from hocket.core.chance import stream_seed
from hocket.core.scheduling import AnyPace, AnySelection, Periodic, Rounds, Uniform
from hocket.core.sizing import AnySizing, Distreal
from hocket.core.stop import Stop
from hocket.core.strategy import Closing, Exchanging, Waiting
from hocket.core.terms import RefreshTerms
from hocket.errors import TaskError
from hocket.learn.codecs import AnyCodec, Raw
from hocket.learn.data import AnyPartition, AnySource, Dirichlet, Examples, Lookup, load
from hocket.learn.data.source import sample
from hocket.learn.reference import build_model, check_fit
from hocket.learn.strategies import AnyStrategy, AsoFed, Ca2fl, Fadas, FedASMU, FedNova
from hocket.learn.training import TrainingRules
from hocket.task.rules import EvaluationRules, Limits, ModelRef, RefreshSettings

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
BY_KIND = Field(discriminator="kind")

DEFAULT_TRAINING = TrainingRules(local_epochs=2, batch_size=32, learning_rate=0.05)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a task was read, and where what it names is looked for."""

    path: Path | None = None
    text: str = ""
    lookup: Lookup = field(default_factory=Lookup)


@dataclass(frozen=True)
class Task:
    """The tables of a task file. Only `model` and `data` have no default."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: ModelRef
    data: Annotated[AnySource, BY_KIND]
    name: str = "task"
    seed: int = 0
    partition: Annotated[AnyPartition, BY_KIND] = field(default_factory=Dirichlet)
    training: TrainingRules = DEFAULT_TRAINING
    strategy: Annotated[AnyStrategy, BY_KIND] = field(default_factory=FedASMU)
    codec: Annotated[AnyCodec, BY_KIND] = field(default_factory=Raw)
    error_feedback: bool = True  # what a lossy codec left out is added to the next update
    pace: Annotated[AnyPace, BY_KIND] = field(default_factory=Periodic)
    selection: Annotated[AnySelection, BY_KIND] = field(default_factory=Uniform)
    refresh: RefreshSettings = field(default_factory=RefreshSettings)
    submodel: Annotated[AnySizing, BY_KIND] = field(default_factory=Distreal)
    evaluation: EvaluationRules = field(default_factory=EvaluationRules)
    stop: Stop = field(default_factory=Stop)
    limits: Limits = field(default_factory=Limits)
    origin: Origin = field(default_factory=Origin)  # not from the file, but about it

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise TaskError(
                f"name is {self.name!r}; take 1 to 64 letters, digits, '.', '_' and '-'"
            )
        if self.refresh.slot >= self.training.local_epochs and self.refresh.kind == "fixed":
            raise TaskError(
                f"refresh.slot is {self.refresh.slot}, but training.local_epochs is "
                f"{self.training.local_epochs}; pull before the last local epoch"
            )

        self._check_round()
        self._check_exchange()
        self._check_masked_loss()
        self._check_work()

    def _check_round(self) -> None:
        """A round must bring as many updates as the strategy waits for, or it never ends."""
        if not isinstance(self.pace, Rounds):
            return
        if self.pace.deadline_s is not None and not isinstance(self.strategy, Closing):
            raise TaskError(
                f"pace.deadline_s is {self.pace.deadline_s}, but strategy.kind is "
                f"{self.strategy.kind!r}, which makes a version of each update: there is no round "
                "to close; leave pace.deadline_s out, or take a strategy of rounds"
            )
        if not isinstance(self.strategy, Waiting):
            return
        name = self.strategy.waits_for
        needed = getattr(self.strategy, name)
        if self.pace.cohort < needed:
            raise TaskError(
                f"pace.cohort is {self.pace.cohort}, but strategy.{name} is {needed}: no round "
                "would ever be complete; make pace.cohort at least as large"
            )

    def _check_exchange(self) -> None:
        """What is exchanged besides the model must arrive as it was sent; it is of plain steps."""
        if not isinstance(self.strategy, Exchanging):
            return
        if self.training.momentum > 0:
            raise TaskError(
                f"training.momentum is {self.training.momentum}, but strategy.kind is "
                f"{self.strategy.kind!r}, whose devices take plain steps; set training.momentum "
                "to 0"
            )
        if self.training.gradient_clip_norm is not None:
            raise TaskError(
                f"training.gradient_clip_norm is {self.training.gradient_clip_norm}, but "
                f"strategy.kind is {self.strategy.kind!r}, whose devices learn their gradients "
                "from the way that their steps went; leave training.gradient_clip_norm out"
            )
        if not isinstance(self.codec, Raw):
            raise TaskError(
                f"codec.kind is {self.codec.kind!r}, but strategy.kind is {self.strategy.kind!r}, "
                "whose devices exchange one more vector, which a lossy codec would spoil: take "
                "codec.kind = 'raw'"
            )

    def _check_masked_loss(self) -> None:
        """A masked loss makes each update one of a part: of the rows of its device's classes."""
        whole_only = isinstance(self.strategy, Exchanging | Ca2fl | Fadas | AsoFed)
        if self.training.masked_loss != "off" and whole_only:
            raise TaskError(
                f"training.masked_loss is {self.training.masked_loss!r}, with which a device "
                "trains the output rows of its own classes only, but strategy.kind is "
                f"{self.strategy.kind!r}, which takes whole models; set training.masked_loss to "
                "'off', or take another strategy"
            )

    def _check_work(self) -> None:
        """The work of steps must be known where a rule divides by it."""
        rule, momentum = self.strategy, self.training.momentum
        if isinstance(rule, FedNova) and rule.mu > 0 and momentum > 0:
            raise TaskError(
                f"training.momentum is {momentum} and strategy.mu is {rule.mu}; how much work "
                "fednova's devices do is known for one of them at a time: set the other to 0"
            )

    def build_model(self) -> nn.Module:
        """The model with its first values: the same in every process. Raises ModelError."""
        return build_model(
            self.model.function,
            self.model.arguments,
            seed=stream_seed(self.seed, "model"),
            search_path=self.origin.lookup.code,
        )

    def check_fit(self, model: nn.Module, examples: Examples) -> None:
        """Raise ModelError unless the model takes these examples and knows all their classes."""
        check_fit(model, examples, self.model.function)

    def test_examples(self) -> Examples:
        """Held-out examples, at most `evaluation.limit`. Raises DataError."""
        limit = self.evaluation.limit
        return load(
            self.data,
            "test",
            seed=self.seed,
            lookup=self.origin.lookup,
            choose=lambda labels: sample(len(labels), limit, self.seed, "evaluation"),
        )

    def statistics_examples(self) -> Examples:
        """Training examples, at most `evaluation.statistics_examples`. Raises DataError."""
        return load(
            self.data,
            "train",
            seed=self.seed,
            lookup=self.origin.lookup,
            choose=lambda labels: self.choose_for_statistics(len(labels), self.seed),
        )

    def choose_for_statistics(self, count: int, seed: int) -> Tensor:
        """Which of so many training examples give batch norm's statistics: ascending, int64."""
        return sample(count, self.evaluation.statistics_examples, seed, "statistics")

    def train_examples(self, shard: int, shards: int) -> Examples:
        """What device number `shard` of `shards` (from 0) holds. Raises DataError."""
        return load(
            self.data,
            "train",
            seed=self.seed,
            lookup=self.origin.lookup,
            choose=lambda labels: self.partition.indices(labels, shards, shard, self.seed),
        )

    @property
    def refresh_terms(self) -> RefreshTerms:
        """How devices refresh in mid-training; with a single local epoch there is no middle."""
        enabled = self.refresh.kind != "none" and self.training.local_epochs > 1
        if isinstance(self.strategy, Exchanging):  # a merge is no step
            enabled = False
        return RefreshTerms(enabled, self.refresh.rules, self.refresh.slot)
