"""The task's model and data, for the aggregator and for Hocket's own devices.

The custom client uses neither. It brings data of its own: `python softmax.py mine.npz` writes 300
digits that no other device has, and that the aggregator does not test on.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

PIXELS, CLASSES = 64, 10
TEST, MINE = 300, 300  # digits held out for the aggregator, and for the custom client

Digits = tuple[NDArray[np.float32], NDArray[np.int64]]


def network() -> nn.Module:
    """Map images (N, 64) to a score for each digit (N, 10)."""
    return nn.Sequential(nn.Linear(PIXELS, CLASSES))


def images(split: str) -> Digits:
    """Images (N, 64) with values in [0, 1], and the digit (N,) on each."""
    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(digits))
    parts = {"test": order[:TEST], "mine": order[TEST : TEST + MINE], "train": order[TEST + MINE :]}
    chosen = parts[split]
    return (pixels[chosen] / 16).astype(np.float32), digits[chosen].astype(np.int64)


if __name__ == "__main__":
    inputs, labels = images("mine")
    np.savez(sys.argv[1], inputs=inputs, labels=labels)
