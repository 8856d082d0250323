"""A search as long as those of the papers, of a problem whose best is known."""

from __future__ import annotations

import numpy as np
from pymoo.indicators.hv import HV
from support.searching import zdt1

from hocket.learn.submodels.search.evolution import Evolution, Generation


def test_the_front_of_zdt1_is_found_and_the_best_never_get_worse() -> None:
    """100 x 250 evaluations; the ideal hypervolume is 0.8767."""
    told: list[Generation] = []
    last = Evolution(population=100, generations=249, seed=1).run(
        np.random.default_rng(2).random((100, 30)),
        1.0,
        lambda _, vectors: zdt1(vectors),
        told=told.append,
    )
    assert [generation.number for generation in told] == list(range(250))
    assert 0.85 <= HV(ref_point=np.array([1.1, 1.1]))(last.objectives) <= 1.21 - 1 / 3 < 0.8767
    best = np.array([generation.objectives.min(axis=0) for generation in told])
    assert (np.diff(best, axis=0) <= 0).all()
    assert zdt1(last.front)[:, 0].min() >= 0
