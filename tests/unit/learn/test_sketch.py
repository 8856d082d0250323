"""Sketches against theory: what they keep on average, how far they are off, what they cost."""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.strategies import push, server
from torch import Tensor

from hocket.core.ids import DeviceId
from hocket.core.update import Applied
from hocket.learn.inner import inner
from hocket.learn.strategies import FedASMU
from hocket.learn.strategies.sketch import sketch

SEEDS = 1500
Vector = NDArray[np.float64]


def normal(size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def variance_in_theory(x: Vector, y: Vector, buckets: int) -> float:
    """1/k times the sum over pairs in different blocks of (x_i y_j + x_j y_i)^2."""
    block = np.arange(len(x)) // buckets
    crossed = np.outer(x, y) + np.outer(y, x)
    apart = block[:, None] < block[None, :]
    return float((crossed[apart] ** 2).sum() / buckets)


def test_the_formula_is_that_of_all_signs_and_shifts() -> None:
    """Every one of 2^5 signs and 2^3 shifts of five entries in two buckets, by hand."""
    x, y = np.array([1.0, -2.0, 0.5, 3.0, 1.5]), np.array([2.0, 1.0, -1.0, 0.5, 4.0])
    estimates = []
    for signs in itertools.product((-1, 1), repeat=5):
        for shifts in itertools.product((0, 1), repeat=3):
            sums = np.zeros((2, 2))
            for i in range(5):
                bucket = (i % 2 + shifts[i // 2]) % 2
                sums[0, bucket] += signs[i] * x[i]
                sums[1, bucket] += signs[i] * y[i]
            estimates.append(float(sums[0] @ sums[1]))
    assert np.mean(estimates) == pytest.approx(x @ y)
    assert np.var(estimates) == pytest.approx(variance_in_theory(x, y, 2))


def spiky(size: int, seed: int) -> Tensor:
    """One entry in sixty-four, always in the same column: what one busy input feature leaves."""
    vector = torch.zeros(size)
    vector[::64] = normal(size, seed)[::64]
    return vector


@pytest.mark.parametrize("make", [normal, spiky], ids=["normal", "spiky"])
@pytest.mark.parametrize("cosine", [0.0, 0.8, 1.0])
def test_inner_products_are_right_on_average_and_off_as_theory_says(
    make: Callable[[int, int], Tensor], cosine: float
) -> None:
    buckets, size = 64, 64 * 12 + 17
    x = make(size, 1)
    y = cosine * x + math.sqrt(1 - cosine**2) * make(size, 2)
    estimates = np.array(
        [inner(sketch(x, buckets, seed), sketch(y, buckets, seed)) for seed in range(SEEDS)]
    )
    exact = float(x.double() @ y.double())
    in_theory = variance_in_theory(x.double().numpy(), y.double().numpy(), buckets)
    assert np.mean(estimates) == pytest.approx(exact, abs=4 * math.sqrt(in_theory / SEEDS))
    assert np.var(estimates) == pytest.approx(in_theory, rel=0.2)
    squares = float(x.double() @ x.double() * (y.double() @ y.double()))
    assert in_theory <= (squares + exact**2) / buckets


def test_the_error_at_the_size_that_is_set_by_default() -> None:
    """A model of 400,000 values: the cosine is off by about sqrt((1 + cos^2) / 16384)."""
    x, y = normal(400_000, 1), normal(400_000, 2)
    errors = []
    for share in (0.0, 0.3, 0.6, 0.9):
        mixed = share * x + math.sqrt(1 - share**2) * y
        length = math.sqrt(inner(x, x) * inner(mixed, mixed))
        cosine = inner(x, mixed) / length
        for seed in range(5):
            estimate = inner(sketch(x, 16384, seed), sketch(mixed, 16384, seed)) / length
            errors.append((estimate - cosine) / math.sqrt((1 + cosine**2) / 16384))
    assert 0.4 < math.sqrt(np.mean(np.square(errors))) < 1.5
    assert max(map(abs, errors)) < 4


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_short_vector_loses_nothing(size: int) -> None:
    x, y = normal(size, 1), normal(size, 2)
    assert len(sketch(x, 64)) == size
    assert inner(sketch(x, 64), sketch(y, 64)) == pytest.approx(inner(x, y), rel=1e-6)


def test_it_is_linear() -> None:
    x, y = normal(1000, 1), normal(1000, 2)
    both = sketch(2 * x - y, 64)
    assert torch.allclose(both, 2 * sketch(x, 64) - sketch(y, 64), atol=1e-4)


def test_it_costs_the_same_for_any_model() -> None:
    for size in (10_000, 1_000_000):
        assert sketch(normal(size, 1), 1024).untyped_storage().nbytes() == 4 * 1024


def test_other_seeds_draw_other_signs() -> None:
    assert not torch.equal(sketch(normal(1000, 1), 64, 0), sketch(normal(1000, 1), 64, 1))


def test_stored_sketches_mean_the_same_in_every_release() -> None:
    """Signs are the lowest bits of SHAKE-128, shifts its words of 8 bytes, little-endian."""
    size, buckets, seed = 1000, 96, 5
    values = normal(size, 1).tolist()
    bytes_of = hashlib.shake_128(b"hocket sketch 5 1000 96 signs").digest(size)
    words = hashlib.shake_128(b"hocket sketch 5 1000 96 shifts").digest(8 * 11)
    shifts = [word % buckets for word in struct.unpack("<11Q", words)]
    expected = [0.0] * buckets
    for i, entry in enumerate(values):
        sign = 1 if bytes_of[i] & 1 else -1
        expected[(i % buckets + shifts[i // buckets]) % buckets] += sign * entry
    assert sketch(torch.tensor(values), buckets, seed).tolist() == pytest.approx(expected, abs=1e-4)


# --- in the strategy ---


def run(rule: FedASMU) -> tuple[dict[str, tuple[float, float, float]], list[float]]:
    """Five devices, each with a direction of its own beside the common one; stale by turns."""
    size = 20_000
    aggregator = server(rule, *([0.0] * size))
    common = normal(size, 99)
    weights = []
    for number in range(80):
        device = number % 5
        direction = common + 0.3 * device * normal(size, device) + normal(size, 1000 + number)
        base = max(1, aggregator.now.version - number % 4)
        update = push(direction * 0.01, base=base, device="abcde"[device], steps=5)
        outcome = aggregator.take(update)
        assert isinstance(outcome, Applied)
        weights.append(outcome.weight)
    controls = {
        name: (known.controls.lambda_, known.controls.sigma, known.controls.iota)
        for name, known in aggregator.memory.devices.items()
    }
    return controls, weights


def test_controls_learned_from_sketches_are_close_to_those_learned_exactly() -> None:
    rates = {"eta_lambda": 0.1, "eta_sigma": 0.1, "eta_iota": 0.01}
    exact, exact_weights = run(FedASMU(**rates))  # type: ignore[arg-type]
    close, close_weights = run(FedASMU(memory="sketch", sketch_size=2048, **rates))  # type: ignore[arg-type]
    for name, learned in exact.items():
        lambda_, sigma, iota = (abs(a - b) for a, b in zip(learned, close[name], strict=True))
        assert lambda_ < 0.1 * abs(learned[0] - 1)
        assert sigma < 0.1 * abs(learned[1] - 1)
        assert iota < 0.1 * learned[2]
    assert close_weights == pytest.approx(exact_weights, rel=0.05)
    assert close != exact


def test_without_normalising_the_inner_product_is_that_of_the_sketches_too() -> None:
    rates = {"eta_lambda": 1e-2, "eta_sigma": 1e-2, "eta_iota": 1e-3, "normalise": False}
    exact, _ = run(FedASMU(**rates))  # type: ignore[arg-type]
    close, _ = run(FedASMU(memory="sketch", sketch_size=2048, **rates))  # type: ignore[arg-type]
    for name, learned in exact.items():
        assert abs(learned[0] - 1) > 1e-3
        assert abs(learned[0] - close[name][0]) < 0.1 * abs(learned[0] - 1)


def test_lengths_stay_exact_and_memory_small() -> None:
    size = 5000
    aggregator = server(FedASMU(memory="sketch", sketch_size=64), *([0.0] * size))
    delta = normal(size, 3)
    aggregator.take(push(delta))
    last = aggregator.memory.devices[DeviceId("a")].last
    assert last.moved.untyped_storage().nbytes() == 4 * 64
    assert last.moved_square == pytest.approx(float(delta.double() @ delta.double()), rel=1e-6)


def test_a_sketch_never_makes_more_of_a_direction_than_the_direction_itself() -> None:
    """The estimate of a cosine may exceed 1; the slope may not. K / sqrt(4) is the most."""
    for seed in range(20):
        aggregator = server(FedASMU(memory="sketch", sketch_size=2), *([0.0] * 9), version=4)
        aggregator.take(push(normal(9, seed), base=4))
        aggregator.take(push(normal(9, seed), base=5))
        xi = 1 / math.sqrt(4)
        most = 1e-3 / (1 + xi) ** 2 / math.sqrt(4)
        assert 1 - most <= aggregator.memory.devices["a"].controls.lambda_ <= 1 + most * (1 + 1e-9)
