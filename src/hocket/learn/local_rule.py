"""The client half of a method: what a device does besides plain gradient descent.

A `LocalRule` is built from the task's terms (`core.terms.LocalTerms`) and lives in the file of the
strategy that it belongs to; `begin` gives the `LocalHalf` of one training. All vectors are flat,
laid out as `LocalFacts.manifest`: the model that this device trains, or the part that it keeps. All
are where it trains, in the CPU's memory or a GPU's, and what a half makes must be there too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from hocket.core.manifest import Manifest
from hocket.learn.features import Features

Part = Callable[[str, Tensor], Tensor]
"""Of a tensor's name and its values: those entries that the step at hand trains (dropout)."""

Ended = tuple[Mapping[str, Tensor], Tensor | None]
"""What is kept for the next training, by names of the rule's choice; and what travels up beside
the delta, laid out like it, or None."""


@dataclass(frozen=True, slots=True)
class LocalFacts:
    """What a rule may know of the training that begins."""

    manifest: Manifest  # of the vectors
    learning_rate: float
    mean_delay_s: float  # from pull to outcome, over this device's trainings; 0: none has ended
    features: Features | None  # None where the rule does not ask for them


class LocalHalf(Protocol):
    """A rule at work in one training."""

    @property
    def features(self) -> Features | None:
        """Whose values `penalty` wants of the pass that is trained; None: none."""
        ...

    def penalty(self, inputs: Tensor, features: Tensor | None) -> Tensor | None:
        """A scalar that is added to the loss of these inputs, differentiable; None: nothing.

        `features` are those of the pass that is trained, with gradient, where asked for.
        """
        ...

    def correct(
        self, gradients: dict[str, Tensor], weights: Mapping[str, Tensor], part: Part
    ) -> None:
        """Put other gradients into the map, before they are clipped: new tensors.

        Both maps hold what the step trains, a part of each tensor where filters are dropped:
        `part` cuts the like out of a whole tensor. Frozen and unused tensors have no gradient.
        """
        ...

    def end(self, weights: Tensor, steps: int) -> Ended:
        """The training is over after `steps` steps; `weights` are the caller's to change."""
        ...


class LocalRule(Protocol):
    """A client half and its settings: a frozen dataclass, its settings the values of the terms."""

    @property
    def kind(self) -> str:
        """Name in the terms."""
        ...

    @property
    def whole_only(self) -> bool:
        """Whether it has no meaning where filters are dropped or only a part is kept."""
        ...

    @property
    def timed(self) -> bool:
        """Whether it wants `mean_delay_s`, which then is kept from training to training."""
        ...

    @property
    def watches(self) -> bool:
        """Whether it wants `features`."""
        ...

    def begin(
        self, base: Tensor, extra: Tensor | None, kept: Mapping[str, Tensor], facts: LocalFacts
    ) -> LocalHalf:
        """Begin a training.

        Args:
            base: the model received; nobody changes it before `end`.
            extra: what travelled with it, laid out like it, if anything.
            kept: what the last `end` gave to keep; nothing before the first training, and
                whatever a file held after a restart: check the shapes.
            facts: of this training.

        Raises:
            ShapeMismatch: what was kept does not fit the model.
        """
        ...
