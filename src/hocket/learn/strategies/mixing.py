"""Arithmetic on global vectors (1-D float32 tensors) that the strategies share.

Nothing here changes its inputs. The order of the operations is part of the contract: replaying
a journal must give the same bits, whether a base is still in memory or was read back.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hocket.core.update import Update

_BLOCK = 1 << 15  # values; below torch's threshold for splitting one sum over threads


def displacement(model: Tensor, base: Tensor, update: Update[Tensor]) -> Tensor:
    """(base + delta) - model where the update holds an entry, 0 elsewhere; a new tensor.

    Exactly `delta` when `base` equals `model`: the difference comes first.
    """
    moved = torch.sub(base, model).add_(update.delta)
    return moved if update.held is None else moved.mul_(update.held)


def mix(model: Tensor, base: Tensor, update: Update[Tensor], alpha: float) -> Tensor:
    """(1 - alpha) model + alpha (base + delta), a new tensor; entries not held stay as they were.

    Three passes, since the sum below rounds better than the two products would.
    """
    return torch.add(model, displacement(model, base, update), alpha=alpha)


def inner(left: Tensor, right: Tensor) -> float:
    """Inner product, summed in float64 in an order that no number of threads can change."""
    blocks = zip(torch.split(left, _BLOCK), torch.split(right, _BLOCK), strict=True)
    return math.fsum(torch.sum(a * b, dtype=torch.float64).item() for a, b in blocks)
