"""NSGA-II, as pymoo has it: asked for vectors, told their objectives. The one file with pymoo.

Deb, Pratap, Agarwal, Meyarivan. A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II. IEEE
Transactions on Evolutionary Computation 6(2), 2002.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.duplicate import DefaultDuplicateElimination
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Generation:
    """The population after a generation: vectors (n, L) and objectives (n, m) to be minimised."""

    number: int  # 0: the first population
    vectors: Floats
    objectives: Floats

    @property
    def front(self) -> Floats:
        """The vectors that no other one dominates."""
        return self.vectors[fronts(self.objectives)[0]]


@dataclass(frozen=True, slots=True)
class Evolution:
    """NSGA-II with the classical operators. The same seed and objectives give the same bits."""

    population: int  # mu
    generations: int  # after the first population
    seed: int
    crossover: float = 0.9
    crossover_eta: float = 20.0
    mutation_eta: float = 20.0  # a gene mutates with probability 1 / L

    def run(
        self,
        first: Floats,
        upper: float,
        evaluate: Callable[[int, Floats], Floats],
        *,
        same: Callable[[Floats], Floats] = np.asarray,
        told: Callable[[Generation], None] = lambda _: None,
    ) -> Generation:
        """Evolve vectors in [0, upper]^L.

        Args:
            first: the first population, (n, L); `population` are kept of it and its children.
            upper: the largest value of a gene, above 0.
            evaluate: from a generation's number and new vectors (n, L) to objectives (n, m).
            same: vectors with the same rows here count as one; none is evaluated twice.
            told: hears of each generation.

        Returns:
            The last population. It ends early where no new vector is to be found.
        """
        algorithm = self._algorithm(first, upper, same)
        generation = Generation(0, first, np.empty((len(first), 0)))
        for number in range(self.generations + 1):
            asked = algorithm.ask()
            if asked is None or len(asked) == 0:
                break
            asked.set("F", evaluate(number, asked.get("X")))
            algorithm.tell(infills=asked)
            kept = algorithm.pop
            generation = Generation(number, kept.get("X"), kept.get("F"))
            told(generation)
        return generation

    def _algorithm(self, first: Floats, upper: float, same: Callable[[Floats], Floats]) -> Any:
        algorithm = NSGA2(
            pop_size=self.population,
            sampling=first,
            crossover=self.sbx(),
            mutation=self.polynomial(first.shape[1]),
            eliminate_duplicates=DefaultDuplicateElimination(func=lambda pop: same(pop.get("X"))),
        )
        problem = Problem(n_var=first.shape[1], n_obj=2, xl=0.0, xu=upper)
        algorithm.setup(problem, termination=NoTermination(), seed=self.seed)
        algorithm.tournament_type = "comp_by_rank_and_crowding"  # the paper's; pymoo's is another
        return algorithm

    def sbx(self) -> Any:
        """Simulated binary crossover, bounded."""
        return SBX(prob=self.crossover, eta=self.crossover_eta)

    def polynomial(self, genes: int) -> Any:
        """Polynomial mutation, bounded."""
        return PM(eta=self.mutation_eta, prob_var=1.0 / genes)


def fronts(objectives: Floats) -> list[list[int]]:
    """Non-dominated sorting: indices by front, the best first. Objectives (n, m) are minimised."""
    return [sorted(front.tolist()) for front in NonDominatedSorting().do(objectives)]


def crowding(objectives: Floats) -> Floats:
    """Crowding distance of each point of a front, infinite at its ends."""
    # pymoo's is the mean over the objectives; the paper's is the sum.
    found = calc_crowding_distance(objectives) * objectives.shape[1]
    return np.asarray(found, dtype=np.float64)
