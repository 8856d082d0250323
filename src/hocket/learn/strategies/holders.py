"""Sums of weights at each entry, for averages over the updates that count there.

Diao, Ding, Tarokh. HeteroFL. ICLR 2021. arXiv:2010.01264
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hocket.core.strategy import Memory
from hocket.learn.sparse import accumulate
from hocket.learn.strategies.recalled import tensor


@dataclass(slots=True)
class Holders:
    """The weights of the updates so far; entries differ once one of them was of a submodel."""

    full: float = 0  # of the updates that count at every entry
    part: Tensor | None = None  # per entry (n, float64), of the others; None: no others

    def add(self, where: Tensor | None, weight: float, like: Tensor) -> None:
        """One update more, which counts `where` there is a 1 (n), or everywhere.

        `like` is a float64 vector of the model's length.
        """
        if where is None:
            self.full += weight
            return
        if self.part is None:
            self.part = torch.zeros_like(like)
        accumulate(self.part, where, weight)

    def per_entry(self) -> Tensor | float:
        """The sum at each entry (n, float64), or the one for all; 1 where nobody counts."""
        if self.part is None:
            return self.full
        sums = self.part + self.full
        return sums.masked_fill_(sums == 0, 1)

    def idle(self) -> Tensor | None:
        """The entries (n, bool) at which nobody counts; None where somebody counts at each."""
        if self.part is None or self.full:
            return None
        found = self.part == 0
        return found if bool(found.any()) else None

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
