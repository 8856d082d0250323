"""Three spiral arms in the plane, to be told apart by a small network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

ARMS = 3


def network(hidden: int = 32) -> nn.Module:
    """Map points (N, 2) to a score for each arm (N, 3)."""
    return nn.Sequential(
        nn.Linear(2, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, ARMS),
    )


def points(split: str, per_arm: int = 400) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points (N, 2) and the number of the arm (N,) that each lies on."""
    chance = np.random.default_rng({"train": 1, "test": 2}[split])
    arm = np.repeat(np.arange(ARMS), per_arm)
    radius = chance.uniform(0.1, 1.0, arm.size)
    angle = 4.0 * radius + 2.0 * np.pi * arm / ARMS + chance.normal(0.0, 0.1, arm.size)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), arm
