"""The inner product of two vectors: at memory speed, and the same bits whoever computes it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from torch import Tensor

from hocket.learn.hands import LONG, by_two

Floats = np.ndarray[tuple[int], np.dtype[np.float32]]
Rows = np.ndarray[tuple[int, int], np.dtype[np.float32]]

_ROW = 8192  # values summed in float32; the sums of rows are added exactly


def inner(left: Tensor, right: Tensor) -> float:
    """<left, right> of two vectors (n, float32); infinite or NaN where that overflows float32.

    Rows are too short for a BLAS to share them among threads, so that neither their number nor
    where the vectors lie in memory changes a bit.
    """
    x, y = left.numpy(), right.numpy()
    whole = len(x) // _ROW * _ROW
    rows, others = x[:whole].reshape(-1, _ROW), y[:whole].reshape(-1, _ROW)
    if whole < LONG:
        sums = _sums(rows, others)
    else:
        half = len(rows) // 2
        halves = [(rows[:half], others[:half]), (rows[half:], others[half:])]
        sums = by_two(_sums_of_all, halves)
    sums += _sums(x[whole:][np.newaxis], y[whole:][np.newaxis])
    return exact_sum(sums)


def exact_sum(sums: Iterable[float]) -> float:
    """Rounded once, so that their order does not matter; infinite or NaN where one of them is."""
    try:
        return math.fsum(sums)
    except (OverflowError, ValueError):  # of infinities
        return math.nan


def _sums_of_all(pairs: Iterable[tuple[Rows, Rows]]) -> list[float]:
    return [total for pair in pairs for total in _sums(*pair)]


def _sums(x: Rows, y: Rows) -> list[float]:
    """Of each row; what overflows shows in the result."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums: list[float] = np.vecdot(x, y).tolist()
    return sums
