"""A model with whatever may go astray between two devices."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Awkward(nn.Module):
    """Running statistics with a counter, dropout of its own, and a constant that is not saved."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 12)
        self.norm = nn.BatchNorm1d(12)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(12, 10)
        self.register_buffer("centre", torch.full((64,), 0.3), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.first(inputs.flatten(1) - self.centre)))
        scores: Tensor = self.last(self.drop(hidden))
        return scores
