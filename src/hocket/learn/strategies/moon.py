"""MOON: FedAvg whose devices keep their features near the global model's, away from their last.

Li, He, Song. Model-Contrastive Federated Learning. CVPR 2021. arXiv:2103.16257, equation 3 and
algorithm 1; the temperature and mu are those of the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor

from hocket.core.ranges import at_least_one, not_negative, positive
from hocket.core.strategy import Global, Memory, Step
from hocket.core.terms import LocalTerms
from hocket.core.update import Update
from hocket.learn.features import Features
from hocket.learn.flat import views
from hocket.learn.local_rule import Ended, LocalFacts, Part
from hocket.learn.strategies import rounds
from hocket.learn.strategies.rounds import Round

_LAST = "model"


def contrast(z: Tensor, near: Tensor, far: Tensor, temperature: float) -> Tensor:
    """-log(e^(a / T) / (e^(a / T) + e^(b / T))), a = cos(z, near), b = cos(z, far); the mean.

    `z`, `near` and `far` are of shape (n, width), T = `temperature`.
    """
    nearness = F.cosine_similarity(z, near, dim=1)
    farness = F.cosine_similarity(z, far, dim=1)
    return F.softplus((farness - nearness) / temperature).mean()  # the same, and no overflow


@dataclass(frozen=True, slots=True)
class Contrastive:
    """The loss gains mu times `contrast` of the features, global model against last local model.

    Both of these are frozen, in evaluation mode. In its first training a device has no last model,
    and the term is 0. The last model is the one whose update was used last, and takes as much room
    on the device as the model.
    """

    mu: float
    temperature: float
    kind: ClassVar[str] = "contrastive"
    whole_only: ClassVar[bool] = True  # features of different widths cannot be compared
    timed: ClassVar[bool] = False
    watches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        not_negative(self.kind, "mu", self.mu)
        positive(self.kind, "temperature", self.temperature)

    def begin(
        self,
        base: Tensor,
        extra: Tensor | None,  # noqa: ARG002 - the protocol's; nothing travels with the model
        kept: Mapping[str, Tensor],
        facts: LocalFacts,
    ) -> Contrasted:
        """Compare with the base and, if there is one, the last local model."""
        last = views(kept[_LAST], facts.manifest) if _LAST in kept else None
        return Contrasted(self, facts.features, views(base, facts.manifest), last)


@dataclass(frozen=True, slots=True)
class Contrasted:
    """One training's comparisons."""

    rule: Contrastive
    features: Features | None
    base: Mapping[str, Tensor]
    last: Mapping[str, Tensor] | None

    def penalty(self, inputs: Tensor, features: Tensor | None) -> Tensor | None:
        """Mu times the contrast; None in a device's first training."""
        if self.last is None or features is None or self.features is None:
            return None
        near, far = self.features(self.base, inputs), self.features(self.last, inputs)
        return self.rule.mu * contrast(features, near, far, self.rule.temperature)

    def correct(
        self, gradients: dict[str, Tensor], weights: Mapping[str, Tensor], part: Part
    ) -> None:
        """Nothing: all is in the loss."""

    def end(self, weights: Tensor, steps: int) -> Ended:  # noqa: ARG002 - the protocol's
        """The model is kept."""
        return {_LAST: weights}, None


@dataclass(frozen=True, slots=True)
class Moon:
    """FedAvg's rounds; a device's loss is f(w) + mu l(w), l being the contrast of its features.

    The features of a model are what its last torch.nn.Linear reads. In the paper they are the
    output of a projection head of two layers before that: a model that has one is compared by it,
    but none is added to a model that has not.
    """

    cohort: int = 10  # K: devices per round
    mu: float = 1.0  # 0.001 to 10 in the paper
    temperature: float = 0.5
    kind: Literal["moon"] = "moon"
    waits_for: ClassVar[str] = "cohort"
    half: ClassVar[type[Contrastive]] = Contrastive

    def __post_init__(self) -> None:
        at_least_one(self.kind, "cohort", self.cohort)
        not_negative(self.kind, "mu", self.mu)
        positive(self.kind, "temperature", self.temperature)

    @property
    def local(self) -> LocalTerms:
        """The contrast; with mu = 0 nothing."""
        values = (("mu", self.mu), ("temperature", self.temperature))
        return LocalTerms(Contrastive.kind, values) if self.mu > 0 else LocalTerms()

    def init(self, model: Tensor) -> Round:
        """A round in which nothing has come yet."""
        return rounds.begin(model)

    def step(
        self,
        now: Global[Tensor],
        memory: Round,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 - the protocol's; only mixing rules need the base
    ) -> Step[Tensor, Round]:
        """FedAvg's; raises InvalidUpdate when `num_examples` is below 1."""
        return rounds.fold(now, memory, update, self.cohort)

    def close(self, now: Global[Tensor], memory: Round) -> Step[Tensor, Round] | None:
        """The average of those that have come, as with a cohort of so many."""
        return rounds.close(now, memory)

    def keep(self, memory: Round) -> Memory[Tensor]:
        """The sums, copied, and who is in them; a round in which nothing has come has no sums."""
        kept = rounds.keep(memory)
        return Memory({"kind": self.kind, **kept.facts}, kept.tensors)

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Round:
        """The round as it was. Raises CorruptState."""
        return rounds.recall(self.kind, kept, model, self.cohort)
