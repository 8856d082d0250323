"""The parts of a task that belong to no other module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hocket.core.ranges import at_least_one, not_negative, positive
from hocket.core.refresh import RefreshRules
from hocket.errors import TaskError

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A factory function and its arguments: `function(**arguments)` returns a torch module."""

    function: str  # "module:function"
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefreshSettings:
    """Whether and when a device pulls the fresh model in mid-training, and how it merges it."""

    kind: Literal["learned", "fixed", "none"] = "learned"
    slot: int = 0  # for kind "fixed": the local epoch after which to pull
    rules: RefreshRules = field(default_factory=RefreshRules)

    def __post_init__(self) -> None:
        not_negative("refresh", "slot", self.slot)
        if (self.kind == "fixed") != (self.slot > 0):
            raise TaskError(
                f"refresh.slot is {self.slot} with refresh.kind {self.kind!r}; a slot of 1 or more "
                "and kind 'fixed' go together, leave it out otherwise"
            )


@dataclass(frozen=True, slots=True)
class EvaluationRules:
    """How often and on how much held-out data the aggregator judges its versions."""

    every_versions: int = 1
    limit: int | None = None  # examples, chosen at random once; None: all
    statistics_examples: int = 1000  # of the training data, for batch norm with static norm

    def __post_init__(self) -> None:
        at_least_one("evaluation", "every_versions", self.every_versions)
        if self.statistics_examples < 2:
            raise TaskError(
                f"evaluation.statistics_examples is {self.statistics_examples}; fewer than 2 have "
                "no statistics. Correct the task file."
            )
        if self.limit is not None:
            at_least_one("evaluation", "limit", self.limit)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the aggregator puts up with."""

    staleness: int = 99  # versions between an update's base and the newest
    train_timeout_s: float = 600.0  # a device in flight for longer is given up
    staged_bytes: int = 256 * MIB  # of pushes that are on the way, all together

    def __post_init__(self) -> None:
        not_negative("limits", "staleness", self.staleness)
        positive("limits", "train_timeout_s", self.train_timeout_s)
        at_least_one("limits", "staged_bytes", self.staged_bytes)
