"""Loops over long vectors, compiled by Numba when this module is imported (2 s).

Torch does one operation after the other, and goes back to the interpreter in between: there it
waits for an event loop that takes in the next updates. These need no interpreter and touch every
value once. Each operation rounds by itself, so that numpy gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hocket.learn.inner import Floats
from hocket.learn.rows import LINE, mix_lines, publish

Integers = np.ndarray[tuple[int], np.dtype[np.int64]]

LANES = 1024
"""Values side by side: each lane sums every 1024th square, so that no sum waits for another."""

_VECTOR, _PLACES = "float32[::1]", "int64[::1]"

NOTHING = np.float32(-0.0)
"""Added to any value, it leaves every bit."""


@njit()
def _mix_row(
    old: Floats,
    met: Floats,
    step: Floats,
    alpha: np.float32,
    new: Floats,
    moved: Floats,
    squares: Floats,
) -> None:
    """As `mix_dense`, of one row; `step` may be longer than `old`."""
    mix_lines(old, met, step, alpha, new, moved, squares)
    for lane in range(len(old) // LINE * LINE, len(old)):
        value = (met[lane] - old[lane]) + step[lane]
        if len(moved):
            moved[lane] = value
        new[lane] = old[lane] + alpha * value
        squares[lane] += value * value


@njit(f"void({', '.join([_VECTOR] * 3)}, float32, {', '.join([_VECTOR] * 3)})", nogil=True)
def mix_dense(
    model: Floats,
    base: Floats,
    delta: Floats,
    alpha: np.float32,
    after: Floats,
    moved: Floats,
    squares: Floats,
) -> None:
    """Moved = (base - model) + delta; after = model + alpha moved; squares (LANES) += moved^2."""
    for start in range(0, len(model), LANES):
        old, met = model[start : start + LANES], base[start : start + LANES]
        step, new = delta[start : start + LANES], after[start : start + LANES]
        _mix_row(old, met, step, alpha, new, moved[start : start + LANES], squares)
    publish()


@njit(
    f"void({_VECTOR}, {_VECTOR}, {_PLACES}, {_VECTOR}, int64, float32, {', '.join([_VECTOR] * 3)})",
    nogil=True,
)
def mix_sparse(
    model: Floats,
    base: Floats,
    places: Integers,
    values: Floats,
    first: int,
    alpha: np.float32,
    after: Floats,
    moved: Floats,
    squares: Floats,
) -> None:
    """As `mix_dense` for few `values` at `places` (ascending, counted from -`first`).

    An empty `moved` is not written.
    """
    step = np.full(LANES, NOTHING)
    next_ = 0
    for start in range(0, len(model), LANES):
        old, met = model[start : start + LANES], base[start : start + LANES]
        began = next_
        while next_ < len(places) and places[next_] - first < start + len(old):
            step[places[next_] - first - start] = values[next_]
            next_ += 1
        new = after[start : start + LANES]
        _mix_row(old, met, step, alpha, new, moved[start : start + LANES], squares)
        for at in range(began, next_):
            step[places[at] - first - start] = NOTHING
    publish()


@njit(
    f"void({_VECTOR}, {_VECTOR}, {_PLACES}, {_VECTOR}, {_PLACES}, {_VECTOR})",
    nogil=True,
)
def moved_at(
    model: Floats,
    base: Floats,
    places: Integers,
    values: Floats,
    wanted: Integers,
    out: Floats,
) -> None:
    """Out = (base - model) + `values` at `places`, where `wanted` says; both ascend."""
    for at in range(len(wanted)):
        out[at] = base[wanted[at]] - model[wanted[at]]
    at = next_ = 0
    while at < len(wanted) and next_ < len(places):
        place, known = wanted[at], places[next_]
        if place == known:
            out[at] += values[next_]
        at += place <= known
        next_ += known <= place
