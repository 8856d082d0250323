"""FedProx: FedAvg whose devices are held near the model that they received.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith. Federated Optimization in Heterogeneous Networks.
MLSys 2020. arXiv:1812.06127
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from hocket.core.ranges import at_least_one, not_negative
from hocket.core.strategy import Global, Memory, Step
from hocket.core.terms import LocalTerms
from hocket.core.update import Update
from hocket.learn.strategies import rounds
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.proximal import Proximal, proximal_terms
from hocket.learn.strategies.rounds import Round
from hocket.learn.strategies.server import AnyServer, Average


@dataclass(frozen=True, slots=True)
class FedProx:
    """FedAvg's rounds; a device's loss is f(w) + mu / 2 |w - x|^2, x being the round's model.

    The paper also lets a device do less work than others. Here every device does the local epochs
    that the task says, unless it drops filters (`[dropout]`) or keeps a part of the model.
    """

    cohort: int = 10  # K: devices per round
    mu: float = 0.01  # 0.001 to 1 in the paper; 0: FedAvg
    parts: Parts = field(default_factory=Parts)
    server: AnyServer = field(default_factory=Average)
    kind: Literal["fedprox"] = "fedprox"
    waits_for: ClassVar[str] = "cohort"
    half: ClassVar[type[Proximal]] = Proximal

    def __post_init__(self) -> None:
        at_least_one(self.kind, "cohort", self.cohort)
        not_negative(self.kind, "mu", self.mu)

    @property
    def local(self) -> LocalTerms:
        """The proximal term."""
        return proximal_terms(self.mu)

    def init(self, model: Tensor) -> Round:
        """A round in which nothing has come yet."""
        return rounds.begin(model, self.parts, self.server)

    def step(
        self,
        now: Global[Tensor],
        memory: Round,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 - the protocol's; only mixing rules need the base
    ) -> Step[Tensor, Round]:
        """FedAvg's; raises InvalidUpdate when `num_examples` is below 1."""
        return rounds.fold(now, memory, update, self.cohort, self.parts, self.server)

    def close(self, now: Global[Tensor], memory: Round) -> Step[Tensor, Round] | None:
        """The average of those that have come, as with a cohort of so many."""
        return rounds.close(now, memory, self.server)

    def keep(self, memory: Round) -> Memory[Tensor]:
        """The sums, copied, who is in them, and the moments; without devices there are no sums."""
        kept = rounds.keep(memory)
        return Memory({"kind": self.kind, **kept.facts}, kept.tensors)

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Round:
        """The round as it was. Raises CorruptState."""
        return rounds.recall(self.kind, kept, model, self.cohort, self.parts, self.server)
