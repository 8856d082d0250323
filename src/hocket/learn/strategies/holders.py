"""Sums of weights at each entry, for averages over the updates that hold it.

Diao, Ding, Tarokh. HeteroFL. ICLR 2021. arXiv:2010.01264
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hocket.core.strategy import Memory
from hocket.learn.strategies.recalled import tensor


@dataclass(slots=True)
class Holders:
    """The weights of the updates so far; entries differ once one of them was of a submodel."""

    full: float = 0  # of the updates that hold every entry
    part: Tensor | None = None  # per entry (n, float64), of the others; None: no others

    def add(self, update_held: Tensor | None, weight: float, like: Tensor) -> None:
        """One update more; `like` is a float64 vector of the model's length."""
        if update_held is None:
            self.full += weight
            return
        if self.part is None:
            self.part = torch.zeros_like(like)
        self.part.add_(update_held, alpha=weight)

    def per_entry(self) -> Tensor | float:
        """The sum at each entry (n, float64), or the one for all; 1 where nobody holds any."""
        if self.part is None:
            return self.full
        sums = self.part + self.full
        return sums.masked_fill_(sums == 0, 1)

    def keep(self, name: str) -> Memory[Tensor]:
        """Fit for storage: the fact `full_<name>`, and the tensor `part_<name>`, copied, if any."""
        parts = {} if self.part is None else {f"part_{name}": self.part.clone()}
        return Memory({f"full_{name}": self.full}, parts)


def recalled_part(kind: str, kept: Memory[Tensor], name: str, model: Tensor) -> Tensor | None:
    """What `Holders.keep` kept of `part`, in memory of its own. Raises CorruptState."""
    stored = f"part_{name}"
    if stored not in kept.tensors:
        return None
    return tensor(kind, kept, stored, tuple(model.shape), torch.float64).clone()
