"""The seam between the rules and the learning: how an update becomes part of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from hocket.core.ids import FIRST_VERSION, Version
from hocket.core.update import Outcome, Update

P = TypeVar("P")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Global(Generic[P]):
    """A global model. `model` is never changed in place: readers hold it without a lock."""

    model: P
    version: Version = FIRST_VERSION


@dataclass(frozen=True, slots=True)
class Step(Generic[P, S]):
    """What `Strategy.step` returns. `after` is the very same Global when nothing was applied."""

    after: Global[P]
    memory: S
    outcome: Outcome


class Strategy(Protocol[P, S]):
    """An aggregation rule: a frozen dataclass whose fields are its hyperparameters.

    `memory` is what the rule remembers between updates (controls per device, a buffer): it may be
    changed in place and is handed over with each call, so a million devices cost no copy.
    """

    @property
    def kind(self) -> str:
        """Name in task files."""
        ...

    def init(self, model: P) -> S:
        """Memory before the first update."""
        ...

    def step(self, now: Global[P], memory: S, update: Update[P], base: P) -> Step[P, S]:
        """Fold one update in. `base` is the global model of `update.header.base_version`.

        Staleness limits other than the rule's own are checked before this is called.
        """
        ...
