"""How a search is done. What decides its trials is part of their keys, the rest is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

from hocket.errors import TaskError

MOST_SEEDS = 1000
Measure = Literal["loss", "accuracy"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The defaults are those of the scale `standard`: minutes on two cores for a small CNN."""

    population: int = 32  # mu
    generations: int = 20  # G, after the first population
    grid: int = 10  # uniform vectors, from nothing dropped to d_max
    d_max: float = 0.9  # largest share that is dropped of a group
    steps: int = 50  # s, mini-batches of a trial
    seeds: int = 2  # q, trials of a vector from each snapshot while searching,
    final_seeds: int = 6  # when the front is filtered, and again when it is compared
    training_steps: int = 600  # of the training from which the snapshots are taken
    snapshots: tuple[float, ...] = (0.0, 0.1, 0.5)  # shares of it
    examples: int = 6000  # of the task's training part, at most
    score: Measure = "loss"  # whose improvement it is
    seed: int = 0
    crossover: float = 0.9
    crossover_eta: float = 20.0
    mutation_eta: float = 20.0  # a gene mutates with probability 1 / L

    def __post_init__(self) -> None:
        counts = ("steps", "training_steps", "examples")
        sound = {name: (getattr(self, name) >= 1, "1 or more") for name in counts} | {
            "generations": (self.generations >= 0, "0 or more"),
            "grid": (2 <= self.grid <= self.population, "2 or more, at most the population"),
            "population": (self.population >= 4, "4 or more"),
            "d_max": (0.0 < self.d_max < 1.0, "above 0 and below 1"),
            "seeds": (1 <= self.seeds <= MOST_SEEDS, f"from 1 to {MOST_SEEDS}"),
            "final_seeds": (1 <= self.final_seeds <= MOST_SEEDS, f"from 1 to {MOST_SEEDS}"),
            "snapshots": (
                bool(self.snapshots)
                and list(self.snapshots) == sorted(set(self.snapshots))
                and all(0.0 <= share <= 1.0 for share in self.snapshots),
                "shares from 0 to 1, ascending, one at least",
            ),
            "crossover": (0.0 <= self.crossover <= 1.0, "from 0 to 1"),
            "crossover_eta": (1.0 < self.crossover_eta < float("inf"), "above 1"),
            "mutation_eta": (1.0 < self.mutation_eta < 100.0, "above 1 and below 100"),
        }
        for name, range_ in ((name, text) for name, (good, text) in sound.items() if not good):
            option = name.replace("_", "-")
            raise TaskError(f"--{option} is {getattr(self, name)}; it must be {range_}")

    @property
    def values(self) -> dict[str, Any]:
        """For the table's [settings]; the seed has a key of its own."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name != "seed"
        }


SCALES: Mapping[str, Settings] = MappingProxyType(
    {
        "quick": Settings(
            population=8,
            generations=2,
            grid=4,
            steps=5,
            seeds=1,
            final_seeds=2,
            training_steps=20,
            snapshots=(0.0, 0.5),
            examples=600,
        ),
        "standard": Settings(),
        "full": Settings(population=64, generations=50, steps=100, seeds=3, final_seeds=9),
    }
)
