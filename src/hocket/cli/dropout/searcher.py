"""The stages of a search: evolve, filter the front, compare. Only what is not kept is tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hocket.cli.compare.engine import Engine
from hocket.cli.dropout.findings import Candidate, Findings, Sizes
from hocket.cli.dropout.jobs import Common, Job, JobFiles, Place, Row, Stage
from hocket.cli.dropout.progress import Shown
from hocket.cli.dropout.settings import Settings
from hocket.core.chance import stream_seed
from hocket.errors import HocketError
from hocket.learn.submodels.cost import ForwardCost
from hocket.learn.submodels.dropout import kept_sizes, shares_of
from hocket.learn.submodels.search.evolution import Evolution, Floats, fronts
from hocket.learn.submodels.search.population import first_population, uniform_rates
from hocket.sim.study.jobs import Failure


@dataclass
class Searcher:
    """One search. The same settings give the same findings, however often it was interrupted."""

    settings: Settings
    common: Common
    place: Place
    cost: ForwardCost
    files: JobFiles
    engine: Engine[Job, Row]
    shown: Shown
    _rows: dict[str, Row] = field(default_factory=dict)  # by the jobs' keys
    _searched: set[Sizes] = field(default_factory=set)

    def run(self) -> Findings:
        """All stages. Raises HocketError for trials that fail."""
        settings = self.settings
        rates = uniform_rates(settings.grid, settings.d_max)
        uniform = {rate: self._sizes([rate] * len(self.cost.graph.groups)) for rate in rates}
        evolved = [self._sizes(vector) for vector in self._evolved(rates)]
        front = self._front([*evolved, *uniform.values()])
        wanted = [*(one.sizes for one in front), *uniform.values()]
        planned = settings.population + settings.grid
        proved = self._try("proof", settings.final_seeds, wanted, "comparing", planned)
        return Findings(
            settings,
            tuple(replace(one, proved=proved[one.sizes]) for one in front),
            {
                rate: replace(self._candidate(sizes), proved=proved[sizes])
                for rate, sizes in uniform.items()
            },
            len(self._searched),
        )

    def _evolved(self, rates: tuple[float, ...]) -> Floats:
        """NSGA-II's front. It is replayed from its seed; what was tried before costs nothing."""
        settings = self.settings
        evolution = Evolution(
            settings.population,
            settings.generations,
            stream_seed(settings.seed, "nsga2"),
            settings.crossover,
            settings.crossover_eta,
            settings.mutation_eta,
        )
        first = first_population(
            len(self.cost.graph.groups),
            settings.population,
            settings.d_max,
            rates,
            stream_seed(settings.seed, "first population"),
        )
        return evolution.run(first, settings.d_max, self._objectives, same=self._kept).front

    def _objectives(self, generation: int, vectors: Floats) -> Floats:
        """M and -C of each vector."""
        settings = self.settings
        sizes = [self._sizes(vector) for vector in vectors]
        name = f"generation {generation}/{settings.generations}"
        rows = self._try("search", settings.seeds, sizes, name, settings.population)
        self._searched |= rows.keys()
        return np.array([[self.cost.share(one), -rows[one].score(settings.score)] for one in sizes])

    def _front(self, candidates: Iterable[Sizes]) -> list[Candidate]:
        """What is not dominated when all are tried with more seeds, the cheapest first."""
        settings = self.settings
        unique = list(dict.fromkeys(candidates))
        planned = settings.population + settings.grid
        self._try("front", settings.final_seeds, unique, "filtering", planned)
        found = [self._candidate(sizes) for sizes in unique]
        points = np.array([[one.cost, -one.score(settings.score)] for one in found])
        return sorted((found[at] for at in fronts(points)[0]), key=lambda one: one.cost)

    def _candidate(self, sizes: Sizes) -> Candidate:
        row = self._rows[self._job("front", self.settings.final_seeds, sizes).key]
        return Candidate(sizes, shares_of(self.cost.graph, sizes), self.cost.share(sizes), row)

    def _try(
        self, stage: Stage, seeds: int, vectors: Sequence[Sizes], name: str, planned: int
    ) -> dict[Sizes, Row]:
        """What the trials of each vector come to."""
        jobs = {sizes: self._job(stage, seeds, sizes) for sizes in vectors}
        for job in jobs.values():
            if job.key not in self._rows and (row := self.files.read(job)) is not None:
                self._rows[job.key] = row
        pending = [job for job in jobs.values() if job.key not in self._rows]
        self.shown.stage(name, len(jobs), len(jobs) - len(pending), planned)

        def told(job: Job, outcome: Row | Failure) -> None:
            if isinstance(outcome, Failure):
                raise HocketError(f"trying to keep {job.sizes} channels failed: {outcome.message}")
            self.files.write(job, outcome)
            self._rows[job.key] = outcome
            self.shown.ended()

        self.engine.run(sorted(pending, key=lambda job: -self.cost.macs(job.sizes)), told)
        return {sizes: self._rows[job.key] for sizes, job in jobs.items()}

    def _job(self, stage: Stage, seeds: int, sizes: Sizes) -> Job:
        return Job(self.common, stage, seeds, sizes, self.place)

    def _sizes(self, vector: Sequence[float]) -> Sizes:
        return kept_sizes(self.cost.graph, vector)

    def _kept(self, vectors: Floats) -> Floats:
        return np.array([self._sizes(vector) for vector in vectors], dtype=np.float64)
