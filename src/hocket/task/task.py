"""A task: which model is trained on which data, by which rules, until when."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from torch import nn

from hocket.core.chance import stream_seed
from hocket.core.scheduling import AnyPace, AnySelection, Periodic, Rounds, Uniform
from hocket.core.stop import Stop
from hocket.core.terms import RefreshTerms
from hocket.errors import TaskError
from hocket.learn.codecs import AnyCodec, Raw
from hocket.learn.data import AnyPartition, AnySource, Dirichlet, Examples, Lookup, load
from hocket.learn.data.source import sample
from hocket.learn.reference import build_model, check_fit
from hocket.learn.strategies import (
    AnyStrategy,
    Ca2fl,
    Fadas,
    FedASMU,
    FedAvg,
    FedBuff,
    FedNova,
    Port,
)
from hocket.learn.training import TrainingRules
from hocket.task.rules import DropoutRules, EvaluationRules, Limits, ModelRef, RefreshSettings

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
    dropout: DropoutRules = field(default_factory=DropoutRules)
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

    def _check_round(self) -> None:
        """A round must bring as many updates as the strategy waits for, or it never ends."""
        match self.strategy:
            case FedAvg(cohort=needed) | FedNova(cohort=needed):
                name = "cohort"
            case FedBuff(goal=needed) | Ca2fl(goal=needed) | Fadas(goal=needed):
                name = "goal"
            case Port(minimum=needed):
                name = "minimum"
            case _:
                return
        if isinstance(self.pace, Rounds) and self.pace.cohort < needed:
            raise TaskError(
                f"pace.cohort is {self.pace.cohort}, but strategy.{name} is {needed}: no round "
                "would ever be complete; make pace.cohort at least as large"
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
        return RefreshTerms(enabled, self.refresh.rules, self.refresh.slot)
