"""The loss over the classes that a device has examples of.

Diao, Ding, Tarokh. HeteroFL. ICLR 2021. arXiv:2010.01264: "masked cross entropy". The scores of the
other classes are a constant, so nothing is learned of them from their absence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

OFF = "off"
FILLS: Mapping[str, float] = MappingProxyType({"zero": 0.0, "minus_infinity": -math.inf})
"""What stands for the score of a class that the device has no example of, by setting."""


@dataclass(frozen=True, slots=True)
class LossMask:
    """Puts a constant in place of the scores of all classes but these."""

    labels: Tensor  # of the classes that count, int64 (k,), ascending
    fill: float

    @classmethod
    def of(cls, labels: Tensor, kind: str) -> LossMask | None:
        """That of a device with examples of these labels (n); None where the loss is not masked."""
        return None if kind == OFF else cls(torch.unique(labels), FILLS[kind])

    def __call__(self, scores: Tensor) -> Tensor:
        """Of scores (n, classes), new ones, through which the gradient flows."""
        held = scores.index_select(1, self.labels)
        return torch.full_like(scores, self.fill).index_copy(1, self.labels, held)


def masked(mask: LossMask | None, scores: Tensor) -> Tensor:
    """The scores as the loss takes them."""
    return scores if mask is None else mask(scores)
