"""Real losses, in float64, for checking derived gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LogisticLoss = Callable[[Tensor], Tensor]


def logistic_loss(seed: int, features: int) -> LogisticLoss:
    """Mean logistic loss of a linear model on 20 random labelled points."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(20, features, generator=generator, dtype=torch.float64)
    signs = torch.randint(0, 2, (20,), generator=generator) * 2.0 - 1.0
    return lambda w: torch.nn.functional.softplus(-signs * (points @ w)).mean()


def gradient(loss: LogisticLoss, at: Tensor) -> Tensor:
    """Gradient of `loss` by automatic differentiation."""
    at = at.clone().requires_grad_()
    return torch.autograd.grad(loss(at), at)[0]


def central_difference(function: Callable[[float], float], at: float) -> float:
    """Slope of `function` by central differences, good to about 1e-9."""
    width = 1e-5
    return (function(at + width) - function(at - width)) / (2 * width)
