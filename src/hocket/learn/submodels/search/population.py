"""Where a search begins: vectors at random, uniform ones over a grid, and none dropped at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def uniform_rates(count: int, upper: float) -> tuple[float, ...]:
    """So many shares, 2 or more, at equal distances from 0 to `upper`."""
    return tuple(upper * step / (count - 1) for step in range(count))


def first_population(
    groups: int, size: int, upper: float, rates: tuple[float, ...], seed: int
) -> npt.NDArray[np.float64]:
    """The first vectors, (size, groups): the uniform ones first, the rest drawn from `seed`.

    `rates` holds 0, and no more shares than `size`.
    """
    uniform = np.repeat(np.array(rates)[:, None], groups, axis=1)
    chance = np.random.Generator(np.random.PCG64(seed))
    drawn = chance.random((size - len(rates), groups)) * upper
    return np.concatenate([uniform, drawn])
