"""FedAvg: synchronous rounds, averaged by the number of examples.

McMahan, Moore, Ramage, Hampson, Arcas. Communication-Efficient Learning of Deep Networks from
Decentralized Data. AISTATS 2017. arXiv:1602.05629
Submodels are averaged entry by entry over those that hold it: Diao, Ding, Tarokh. HeteroFL.
ICLR 2021. arXiv:2010.01264
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from hocket.core.ranges import at_least_one
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Update
from hocket.learn.strategies import rounds
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.rounds import Round
from hocket.learn.strategies.server import AnyServer, Average


@dataclass(frozen=True, slots=True)
class FedAvg:
    """x <- x + D, D = sum of p_i delta_i, p_i = n_i / sum of n, once K devices have pushed for x.

    With an optimizer on the server D is the gradient that it ascends.
    """

    cohort: int = 10  # K: devices per round
    parts: Parts = field(default_factory=Parts)  # n_i, and what counts where parts are trained
    server: AnyServer = field(default_factory=Average)  # what becomes of the sum
    kind: Literal["fedavg"] = "fedavg"
    waits_for: ClassVar[str] = "cohort"

    def __post_init__(self) -> None:
        at_least_one(self.kind, "cohort", self.cohort)

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
        """Take the update into the round (in place); the K-th closes it.

        Dropped with ROUND_OVER: an update from another base than the current version, or a
        second one from the same device. A buffered update's weight is its share so far.
        Raises InvalidUpdate when `num_examples` is below 1.
        """
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
