"""A rule with a bug: over some updates it breaks, once it has changed its memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hocket.core.ids import Version
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Update

POISON = 666  # examples, by which the rule tells what it breaks over


@dataclass(frozen=True, slots=True)
class Fragile:
    """Adds all that it ever took in to each version, so that no trace of an update is lost."""

    not_a_number: bool = False  # it gives a weight of NaN instead of breaking
    strided: bool = False  # it gives a model that lies in memory with gaps instead
    kind: str = "fragile"

    def init(self, model: Tensor) -> Tensor:
        return torch.zeros_like(model)

    def step(
        self,
        now: Global[Tensor],
        memory: Tensor,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 -- the protocol's
    ) -> Step[Tensor, Tensor]:
        memory += update.delta
        weight = 1.0
        if update.header.num_examples == POISON:
            if self.strided:
                gaps = memory.repeat_interleave(2)[::2]
                return Step(
                    Global(gaps, Version(now.version + 1)),
                    memory,
                    Applied(Version(now.version + 1), 1.0, 0),
                )
            if not self.not_a_number:
                raise RuntimeError("the buffer is one short")
            weight = float("nan")
        made = Global(now.model + memory, Version(now.version + 1))
        tau = now.version - update.header.base_version
        return Step(made, memory, Applied(made.version, weight, tau))

    def keep(self, memory: Tensor) -> Memory[Tensor]:
        return Memory({}, {"sum": memory.clone()})

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Tensor:  # noqa: ARG002 -- the protocol's
        return kept.tensors["sum"].clone()
