"""A mixing step over a long model, compiled, half of it by each of two hands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from hocket.learn import kernels
from hocket.learn.hands import by_two
from hocket.learn.inner import Floats, exact_sum
from hocket.learn.pool import POOL
from hocket.learn.strategies.displacement import Displacement

Kernel = Callable[[slice, Floats], None]
"""Does a part of the vectors, and adds the squares of what is moved to lanes."""


def mix(
    model: Tensor, base: Tensor, delta: Tensor, alpha: float, *, in_parts: bool
) -> tuple[Tensor, Tensor | Displacement, float]:
    """The new model; (base + delta) - model; and the square of that. Vectors (n, float32).

    With `in_parts` the displacement of a sparse delta is not written down. A square that overflows
    float32 is infinite or NaN.
    """
    after = POOL.take(len(model))
    if in_parts and delta.is_sparse:
        square = _by_halves(len(model), _sparse(model, base, delta, alpha, after, None))
        return after, Displacement(model, base, delta), square
    moved = POOL.take(len(model))
    kernel = _sparse if delta.is_sparse else _dense
    return after, moved, _by_halves(len(model), kernel(model, base, delta, alpha, after, moved))


def _dense(
    model: Tensor, base: Tensor, delta: Tensor, alpha: float, after: Tensor, moved: Tensor
) -> Kernel:
    old, met, step, new, way = (v.numpy() for v in (model, base, delta, after, moved))

    def run(part: slice, squares: Floats) -> None:
        vectors = old[part], met[part], step[part]
        kernels.mix_dense(*vectors, np.float32(alpha), new[part], way[part], squares)

    return run


def _sparse(
    model: Tensor, base: Tensor, delta: Tensor, alpha: float, after: Tensor, moved: Tensor | None
) -> Kernel:
    old, met, new = (v.numpy() for v in (model, base, after))
    places, values = delta.indices()[0].numpy(), delta.values().numpy()

    def run(part: slice, squares: Floats) -> None:
        low, high = np.searchsorted(places, (part.start, part.stop))
        few = places[low:high], values[low:high], part.start
        way = np.empty(0, np.float32) if moved is None else moved.numpy()[part]
        kernels.mix_sparse(old[part], met[part], *few, np.float32(alpha), new[part], way, squares)

    return run


def _by_halves(size: int, kernel: Kernel) -> float:
    """Both halves; the exact sum of all lanes, whoever did which half."""
    half = size // 2 // kernels.LANES * kernels.LANES

    def work(parts: Sequence[slice]) -> list[float]:
        lanes: list[float] = []
        for part in parts:
            squares = np.zeros(kernels.LANES, np.float32)
            kernel(part, squares)
            lanes += squares.tolist()
        return lanes

    return exact_sum(by_two(work, [slice(0, half), slice(half, size)]))
