"""What a task has come to: all that decides the model from here on, and every answer given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hocket.core.ids import DeviceId, UpdateId
from hocket.core.ledger import Ledger
from hocket.core.strategy import Closing, Global, Step, Strategy
from hocket.core.terms import Finished
from hocket.core.update import Applied, Dropped, Outcome, Update
from hocket.core.versions import Versions

P = TypeVar("P")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Folded(Generic[P]):
    """What an update came to; with it, maybe, a version and the updates that are part of it."""

    outcome: Outcome
    made: Global[P] | None = None
    update_ids: tuple[UpdateId, ...] = ()


@dataclass(slots=True)
class TaskState(Generic[P, S]):
    """A pure function of what it was at some moment and of what was folded in or closed since.

    So whoever stores it now and then, and each update between, can have it back bit for bit.
    """

    versions: Versions[P]
    memory: S  # the strategy's
    ledger: Ledger = field(default_factory=Ledger)
    pending_ids: list[UpdateId] = field(default_factory=list)  # accepted since the newest version
    contributors: set[DeviceId] = field(default_factory=set)  # who sent those
    finished: Finished | None = None
    updates_accepted: int = 0
    updates_rejected: int = 0
    triggers_sent: int = 0  # names the random draws of the next ones

    def fold(self, strategy: Strategy[P, S], update: Update[P]) -> Folded[P]:
        """Have the strategy take an update in. Raises UnknownVersion for a base that is gone."""
        header = update.header
        base = self.versions.get(header.base_version)
        step = strategy.step(self.versions.newest, self.memory, update, base)
        self.memory = step.memory
        if isinstance(step.outcome, Dropped):
            return Folded(step.outcome)
        self.pending_ids.append(header.update_id)
        self.contributors.add(header.device_id)
        if not isinstance(step.outcome, Applied):
            return Folded(step.outcome)
        return self._made(step)

    def close(self, strategy: Closing[P, S]) -> Folded[P] | None:
        """Have the strategy make a version of what has come; None when nothing has."""
        step = strategy.close(self.versions.newest, self.memory)
        if step is None:
            return None
        self.memory = step.memory
        folded = self._made(step)
        self.ledger.forget(self.versions.oldest)
        return folded

    def settle(self, update: Update[P], outcome: Outcome) -> None:
        """Take down an update's final answer."""
        self.ledger.settle(update.header, outcome, self.versions.oldest)
        if isinstance(outcome, Dropped):
            self.updates_rejected += 1
        else:
            self.updates_accepted += 1

    def _made(self, step: Step[P, S]) -> Folded[P]:
        folded = Folded(step.outcome, step.after, tuple(self.pending_ids))
        self.versions.add(step.after)
        self.pending_ids.clear()
        self.contributors.clear()
        return folded
