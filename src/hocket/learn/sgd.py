"""Stochastic gradient descent as torch.optim.SGD does it, on tensors instead of modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hocket.errors import InvalidRequest
from hocket.learn.masked_loss import FILLS, OFF

MOST_EPOCHS = 1_000_000  # of one training
LARGEST_BATCH = 1_000_000_000  # "all of them" for any device


@dataclass(frozen=True, slots=True)
class TrainingRules:
    """How a device trains between a trigger and its push."""

    local_epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    gradient_clip_norm: float | None = None  # largest Euclidean norm of a step's whole gradient
    # Outputs of a layer that trains k of its K channels times K / k, so that parts and the whole
    # agree (inverted dropout; HeteroFL's scaler). Turn it off for models with batch norm.
    rescale: bool = True
    # Batch norm: devices keep running statistics and send them, or keep none ("static", HeteroFL).
    norm: Literal["running", "static"] = "running"
    # Scores of classes that the device has no example of, in its loss: as they are, 0, or left out.
    masked_loss: Literal["off", "zero", "minus_infinity"] = "off"

    def __post_init__(self) -> None:
        """Refuse rules under which nothing could be learned."""
        clip = self.gradient_clip_norm
        sound = {
            "local_epochs": (1 <= self.local_epochs <= MOST_EPOCHS, f"from 1 to {MOST_EPOCHS}"),
            "batch_size": (1 <= self.batch_size <= LARGEST_BATCH, f"from 1 to {LARGEST_BATCH}"),
            "learning_rate": (0.0 < self.learning_rate < float("inf"), "above 0"),
            "momentum": (0.0 <= self.momentum < 1.0, "at least 0 and below 1"),
            "weight_decay": (0.0 <= self.weight_decay < float("inf"), "at least 0"),
            "gradient_clip_norm": (clip is None or clip > 0.0, "above 0, or left out"),
            "norm": (self.norm in ("running", "static"), "running or static"),
            "masked_loss": (self.masked_loss in (OFF, *FILLS), f"one of {OFF}, {', '.join(FILLS)}"),
        }
        for field, range_ in ((name, range_) for name, (good, range_) in sound.items() if not good):
            value = getattr(self, field)
            msg = f"training rule {field} is {value}, which is out of range; it must be {range_}"
            raise InvalidRequest(msg, field=field)


def clip(gradients: Sequence[Tensor], largest_norm: float) -> None:
    """Scale gradients in place so that their joint Euclidean norm is at most `largest_norm`."""
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    scale = (largest_norm / (norm + 1e-6)).clamp(max=1.0)  # torch's clip_grad_norm_
    for gradient in gradients:
        gradient.mul_(scale)


def descend(
    weights: Tensor, gradient: Tensor, velocity: Tensor | None, rules: TrainingRules
) -> None:
    """One step of SGD in place, with weight decay and, where a velocity is given, momentum."""
    if rules.weight_decay:
        gradient = gradient.add(weights, alpha=rules.weight_decay)
    if velocity is not None:
        gradient = velocity.mul_(rules.momentum).add_(gradient)
    weights.add_(gradient, alpha=-rules.learning_rate)
