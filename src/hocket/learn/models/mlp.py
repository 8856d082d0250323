"""A multilayer perceptron for feature vectors, or for images laid flat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(inputs: int, classes: int, hidden: Sequence[int] = (64,)) -> nn.Sequential:
    """Linear layers with ReLU between them, for inputs of `inputs` values each in any shape."""
    layers: list[nn.Module] = [nn.Flatten()]
    for wide, narrow in pairwise((inputs, *hidden)):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    layers.append(nn.Linear(hidden[-1] if hidden else inputs, classes))
    return nn.Sequential(*layers)
