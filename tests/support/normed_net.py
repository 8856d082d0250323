"""A classifier with batch norm, as a task file can name it."""

from __future__ import annotations

from torch import nn


def normed(classes: int = 10) -> nn.Sequential:
    """A small one of 8x8 digits, with dropout behind its norms."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(12, classes),
    )
