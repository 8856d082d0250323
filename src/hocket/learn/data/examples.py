"""Inputs and labels, as the training and the evaluation take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Examples:
    """`inputs`: float32, (N, C, H, W) or (N, F). `labels`: int64, (N,), counted from 0."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example's input."""
        return tuple(self.inputs.shape[1:])

    def take(self, indices: Tensor) -> Examples:
        """The examples at int64 `indices`, in that order."""
        at = indices.to(self.labels.device)
        return Examples(self.inputs[at], self.labels[at])

    def to(self, device: torch.device) -> Examples:
        """The same in this device's memory: no copy of what is there."""
        return Examples(self.inputs.to(device), self.labels.to(device))
