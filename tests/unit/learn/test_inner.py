"""The inner product of large vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hocket.learn.inner import inner


def random(size: int, seed: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [1, 8191, 8192, 8193, 100_003])
def test_it_is_that_of_double_precision_but_for_rounding(size: int) -> None:
    left, right = random(size, 1), random(size, 2)
    exact = float(np.dot(left.numpy().astype(np.float64), right.numpy().astype(np.float64)))
    assert abs(inner(left, right) - exact) <= 1e-6 * float((left * right).abs().double().sum())


def test_where_a_vector_lies_in_memory_changes_no_bit() -> None:
    left, right = random(50_001, 1), random(50_001, 2)
    for shift in range(1, 17):
        moved = torch.empty(50_001 + shift)[shift:].copy_(left)
        assert inner(moved, right) == inner(left, right)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan, 3e38])
@pytest.mark.parametrize("at", [0, 8192, 20_000])
def test_what_is_not_finite_or_overflows_shows(bad: float, at: int) -> None:
    vector = random(20_001, 1)
    vector[at] = bad
    assert not math.isfinite(inner(vector, vector))


def test_infinities_of_both_signs_do_not_cancel() -> None:
    left = torch.tensor([math.inf, -math.inf, 1.0])
    assert math.isnan(inner(left, torch.ones(3)))
