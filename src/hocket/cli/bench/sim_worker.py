"""One measurement of the simulator in a process of its own, which nothing else has grown."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import torch

from hocket.cli.bench import sim_scenes
from hocket.cli.bench.stacking import gains
from hocket.cli.bench.worker import JSON, work
from hocket.cli.garbage import few_collections
from hocket.learn.strategies import AnyStrategy
from hocket.sim.noop import NoopWorkshop
from hocket.sim.preparing import Prepared
from hocket.sim.result import Result
from hocket.sim.simulation import Simulation

NOOP_EXAMPLES = 100  # that a device holds which trains nothing
CALIBRATION = 400  # updates, to learn how many fill the time
PARTS = 5  # into which events are cut: the median part counts
WARM_UP = 0.2  # share of the events that pass before


def overhead(job: JSON) -> JSON:
    """The share of a run's time that is no torch work."""
    folders = [Path(folder) for folder in job["folders"]]
    prepared = sim_scenes.cifar(folders, job["trainings"], job["examples_each"])
    with few_collections():
        result = Simulation(prepared, stopwatch=time.perf_counter).run()
    wall = result.wall
    return {
        "overhead_fraction": wall.overhead_fraction,
        "trainings": result.counts.trainings,
        "total_s": wall.total_s,
        "train_s": wall.train_s,
        "evaluate_s": wall.evaluate_s,
    }


def noop(job: JSON) -> JSON:
    """Updates a second of devices that train nothing, by strategy: the best of some runs."""

    def best(strategy: AnyStrategy) -> float:
        def run(updates: int) -> float:
            result = _simulate_noop(sim_scenes.noop(strategy, updates))
            return result.counts.updates_accepted / result.wall.total_s

        updates = max(CALIBRATION, int(run(CALIBRATION) * job["seconds"]))
        return max(run(updates) for _ in range(job["runs"]))

    return {name: best(strategy) for name, strategy in sim_scenes.STRATEGIES.items()}


def registered(job: JSON) -> JSON:
    """Processor time of one event of a fleet of this size, and the most memory that it took."""
    began_s = time.process_time()
    prepared = sim_scenes.registered(job["devices"], job["training_at_once"], job["updates"])
    marks: list[tuple[int, float]] = []

    def watch(simulation: Simulation) -> None:
        marks.append((simulation.agenda.handled, time.process_time()))

    result = _simulate_noop(prepared, watch)
    return {
        "devices": job["devices"],
        "seconds_per_event": seconds_per_event(marks),
        "events": result.wall.events,
        "updates": result.counts.updates_accepted,
        "begin_s": marks[0][1] - began_s,
        "virtual_s": result.virtual_s,
        "rss_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def batched(job: JSON) -> JSON:
    """How many times faster devices train together, by model."""
    found = gains(job["devices"], job["runs"])
    return {model: asdict(gain) for model, gain in found.items()}


def seconds_per_event(marks: list[tuple[int, float]]) -> float:
    """Of the median part, from (events, seconds) since a run began; the first ones do not count."""
    events = marks[-1][0]
    kept = [mark for mark in marks if mark[0] >= WARM_UP * events]
    bounds = [kept[round(part * (len(kept) - 1) / PARTS)] for part in range(PARTS + 1)]
    return statistics.median(
        (after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(bounds)
    )


def _simulate_noop(prepared: Prepared, watch: Callable[[Simulation], None] | None = None) -> Result:
    manifest = prepared.setup.terms.manifest
    workshop = NoopWorkshop(manifest, NOOP_EXAMPLES)
    with few_collections():
        return Simulation(
            prepared, stopwatch=time.perf_counter, workshop=workshop, watch=watch
        ).run()


MEASUREMENTS: Mapping[str, Callable[[JSON], JSON]] = {
    "overhead": overhead,
    "noop": noop,
    "registered": registered,
    "batched": batched,
}


async def measure(job: JSON) -> JSON:
    """What the job asks for. Raises HocketError."""
    torch.set_num_threads(1)
    return MEASUREMENTS[job["measure"]](job)


if __name__ == "__main__":
    sys.exit(work(measure))
