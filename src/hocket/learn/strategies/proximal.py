"""The proximal term: a device's steps are held near the model that it received.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith. Federated Optimization in Heterogeneous Networks.
MLSys 2020. arXiv:1812.06127, algorithm 2
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hocket.core.ranges import not_negative
from hocket.core.terms import LocalTerms
from hocket.learn.flat import views
from hocket.learn.local_rule import Ended, LocalFacts, Part


@dataclass(frozen=True, slots=True)
class Proximal:
    """The loss becomes f(w) + mu / 2 |w - x|^2, x being the model received, so g += mu (w - x).

    The norm is over all that is trained; of a submodel, over what that holds.
    """

    mu: float
    kind: ClassVar[str] = "proximal"
    whole_only: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    watches: ClassVar[bool] = False

    def __post_init__(self) -> None:
        not_negative(self.kind, "mu", self.mu)

    def begin(
        self,
        base: Tensor,
        extra: Tensor | None,  # noqa: ARG002 - the protocol's; nothing travels with the model
        kept: Mapping[str, Tensor],  # noqa: ARG002 - the protocol's; nothing is kept
        facts: LocalFacts,
    ) -> Tether:
        """Hold the training to its base."""
        return Tether(self.mu, views(base, facts.manifest))


@dataclass(frozen=True, slots=True)
class Tether:
    """One training's pull back to its base."""

    mu: float
    base: Mapping[str, Tensor]
    features: ClassVar[None] = None

    def penalty(self, inputs: Tensor, features: Tensor | None) -> None:
        """Nothing: the gradient of the term is known without its value."""

    def correct(
        self, gradients: dict[str, Tensor], weights: Mapping[str, Tensor], part: Part
    ) -> None:
        """Add mu (w - x)."""
        for name, gradient in gradients.items():
            away = weights[name] - part(name, self.base[name])
            gradients[name] = gradient.add(away, alpha=self.mu)

    def end(self, weights: Tensor, steps: int) -> Ended:  # noqa: ARG002 - the protocol's
        """Nothing is kept."""
        return {}, None


def proximal_terms(mu: float) -> LocalTerms:
    """What devices are told of it: with mu = 0 nothing."""
    return LocalTerms(Proximal.kind, (("mu", mu),)) if mu > 0 else LocalTerms()
