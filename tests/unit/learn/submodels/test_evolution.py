"""NSGA-II as the search uses it (distreal.md 2.8, items 7 to 9). Needs pymoo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymoo.core.problem import Problem
from support.searching import zdt1

from hocket.learn.submodels.search.evolution import Evolution, Floats, crowding, fronts
from hocket.learn.submodels.search.population import first_population, uniform_rates

POINTS = {"a": (0.2, 0.30), "b": (0.4, 0.45), "c": (0.4, 0.40), "d": (0.7, 0.60), "e": (1, 0.62),
          "f": (0.8, 0.55)}  # fmt: skip
CLASSICAL = Evolution(population=8, generations=3, seed=5)


def minimised(names: str) -> Floats:
    """Costs are to be small, scores to be large."""
    return np.array([[POINTS[name][0], -POINTS[name][1]] for name in names])


def test_fronts_and_crowding_of_the_methods_example() -> None:
    names = "abcdef"
    sorted_ = [{names[at] for at in front} for front in fronts(minimised(names))]
    assert sorted_ == [set("abde"), set("cf")]
    distances = dict(zip("abde", crowding(minimised("abde")), strict=True))
    assert distances["a"] == distances["e"] == np.inf
    assert distances["b"] == pytest.approx(1.5625)
    assert distances["d"] == pytest.approx(1.28125)


class Scripted:
    """A generator that says what it was told to, whatever shape is asked for."""

    def __init__(self, *values: float) -> None:
        self._values = list(values)

    def random(self, size: Any) -> Floats:
        return np.full(size, self._values.pop(0))


@pytest.mark.parametrize(
    ("u", "children"), [(0.1, (0.21476, 0.58524)), (0.5, (0.2, 0.6)), (0.9, (0.18407, 0.61593))]
)
def test_crossover_spreads_as_in_the_methods_example(u: float, children: tuple[float, ...]) -> None:
    problem = Problem(n_var=1, n_obj=2, xl=0.0, xu=1.0)
    parents = np.array([[[0.2]], [[0.6]]])
    said = Scripted(0.0, 0.0, u, 0.9)  # exchange allowed, the gene crosses, u, children in order
    found = CLASSICAL.sbx()._do(problem, parents, random_state=said).ravel()
    assert found == pytest.approx(children, abs=1e-5)
    assert sum(found) == pytest.approx(0.8, abs=1e-6)  # the bounds of pymoo's variant shift 1e-7


@pytest.mark.parametrize(("u", "delta"), [(0.1, -0.073777), (0.5, 0.0), (0.9, 0.073777)])
def test_mutation_moves_as_in_the_methods_example(u: float, delta: float) -> None:
    problem = Problem(n_var=1, n_obj=2, xl=0.0, xu=2.0)
    mutated = CLASSICAL.polynomial(1)._do(problem, np.array([[1.0]]), random_state=Scripted(0.0, u))
    assert mutated.item() == pytest.approx(1.0 + 2.0 * delta, abs=1e-5)


def test_a_gene_in_l_mutates() -> None:
    problem = Problem(n_var=40, n_obj=2, xl=0.0, xu=1.0)
    before = np.full((500, 40), 0.5)
    after = CLASSICAL.polynomial(40)._do(problem, before, random_state=np.random.default_rng(3))
    assert np.mean(after != before) == pytest.approx(1 / 40, abs=0.004)


def test_the_same_seed_gives_the_same_bits_and_another_one_others() -> None:
    first = first_population(3, 8, 0.9, uniform_rates(4, 0.9), seed=7)
    runs = [
        Evolution(8, 3, seed).run(first, 0.9, lambda _, vectors: zdt1(vectors)).vectors
        for seed in (5, 5, 6)
    ]
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


def test_vectors_that_come_to_the_same_are_asked_for_once() -> None:
    """Three groups of two channels each: 8 different vectors, then nothing new is to be found."""
    asked: list[tuple[float, ...]] = []

    def evaluate(_: int, vectors: Floats) -> Floats:
        asked.extend(map(tuple, np.round(vectors)))
        return np.column_stack([vectors.sum(axis=1), -vectors.sum(axis=1)])

    first = np.random.default_rng(4).random((8, 3))
    Evolution(8, 30, seed=1).run(first, 1.0, evaluate, same=np.round)
    assert len(asked) == len(set(asked)) <= 8


def test_a_population_begins_with_uniform_vectors_and_none_dropped() -> None:
    rates = uniform_rates(4, 0.9)
    assert rates == pytest.approx((0.0, 0.3, 0.6, 0.9))
    first = first_population(5, 10, 0.9, rates, seed=1)
    assert first.shape == (10, 5)
    assert first[:4].tolist() == [[rate] * 5 for rate in rates]
    assert (first[4:] < 0.9).all()
    assert len(np.unique(first[4:])) == 30
