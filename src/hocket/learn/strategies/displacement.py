"""What an update would have moved the model by, kept as what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hocket.learn.hands import by_two
from hocket.learn.inner import inner
from hocket.learn.pool import POOL
from hocket.learn.sparse import add_block


@dataclass(frozen=True, slots=True)
class Displacement:
    """(base + delta) - model for a sparse delta: two models that are there, and few values.

    To write it down for each update would take as long again as the step itself, and most of it
    nobody ever looks at. Its values have the same bits as the vector's.
    """

    model: Tensor  # (n, float32), as all of these nobody changes it
    base: Tensor  # (n, float32)
    delta: Tensor  # (n), sparse

    def vector(self) -> Tensor:
        """All of it (n, float32), a new tensor."""
        out = torch.sub(self.base, self.model, out=POOL.take(len(self.model)))
        add_block(out, (self.delta.indices()[0], self.delta.values()))
        return out

    def inner(self, progress: Tensor) -> float:
        """<progress, this>; of a sparse `progress` only its places are looked at."""
        if not progress.is_sparse:
            return inner(progress, self.vector())
        return inner(progress.values(), self._at(progress.indices()[0]))

    def _at(self, places: Tensor) -> Tensor:
        """Its values there; `places` (k, int64) ascend."""
        from hocket.learn import kernels  # noqa: PLC0415 -- compiled when first needed

        out = torch.empty(len(places))
        model, base, wanted, found = (v.numpy() for v in (self.model, self.base, places, out))
        known, values = self.delta.indices()[0].numpy(), self.delta.values().numpy()

        def work(parts: Sequence[slice]) -> list[None]:
            for part in parts:
                if len(wanted[part]):
                    first = np.searchsorted(known, wanted[part][0])
                    few = known[first:], values[first:], wanted[part]
                    kernels.moved_at(model, base, *few, found[part])
            return []

        half = len(wanted) // 2
        by_two(work, [slice(0, half), slice(half, len(wanted))])
        return out


def vector_of(moved: Tensor | Displacement) -> Tensor:
    """However it is kept."""
    return moved.vector() if isinstance(moved, Displacement) else moved
