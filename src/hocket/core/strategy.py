"""The seam between the rules and the learning: how an update becomes part of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from hocket.core.ids import FIRST_VERSION, Version
from hocket.core.terms import LocalTerms
from hocket.core.update import Outcome, Update

P = TypeVar("P")
S = TypeVar("S")
P_co = TypeVar("P_co", covariant=True)
S_contra = TypeVar("S_contra", contravariant=True)


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


@dataclass(frozen=True, slots=True)
class Memory(Generic[P]):
    """What a rule remembers, fit for storage: JSON values, and tensors that nobody changes."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, P] = field(default_factory=dict)  # by a name of the rule's choice


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

    def keep(self, memory: S) -> Memory[P]:
        """All of `memory`, so that `recall` gives it back bit for bit.

        Tensors that `step` changes in place are copied; others are handed out as they are. How
        `memory` holds something may change, what it holds may not.
        """
        ...

    def recall(self, kept: Memory[P], model: P) -> S:
        """The memory that `keep` was given; `model` is the newest, for its shape.

        Raises CorruptState when `kept` is not of this rule's making.
        """
        ...


@runtime_checkable
class WithLocal(Protocol):
    """A rule that has the devices do more than plain gradient descent."""

    @property
    def local(self) -> LocalTerms:
        """Its client half, as the devices are told of it."""
        ...


@runtime_checkable
class Exchanging(Protocol[P_co, S_contra]):
    """A rule whose devices exchange one more vector with it, laid out as the model.

    It goes down with each base, and `Update.extra` comes up with each delta. It is part of the
    rule's memory, so snapshot and journal rebuild it as they rebuild the model.
    """

    def down(self, memory: S_contra) -> P_co:
        """The vector that goes with the newest version. Changes with a version, never between.

        Never changed in place: readers hold it without a lock.
        """
        ...


@runtime_checkable
class Waiting(Protocol):
    """A rule of which several updates make one version, and not each by itself."""

    waits_for: ClassVar[str]
    """The field that says how many."""


@runtime_checkable
class Closing(Protocol[P, S]):
    """A rule that can make a version of fewer updates than it waits for."""

    def close(self, now: Global[P], memory: S) -> Step[P, S] | None:
        """The version that what has come makes by itself; None when nothing has come.

        The step's outcome means nothing: it is no update's.
        """
        ...
