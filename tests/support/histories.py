"""Histories for tests: recorded of small simulations, or written from an aggregator's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from support.simulations import ready, stopwatch

from hocket.cli.history import write_history
from hocket.sim.fleet import FleetFile
from hocket.sim.history import (
    Entry,
    History,
    HistoryWriter,
    Recorder,
    beginning_of,
    read_history,
)
from hocket.sim.result import Result
from hocket.sim.simulation import Simulation
from hocket.task import Task
from hocket.task.setup import Setup


def recorded(task: Task, fleet: FleetFile, folder: Path) -> tuple[Result, History]:
    """A simulation and its history."""
    prepared = ready(task, fleet)
    with HistoryWriter(folder, beginning_of(prepared.setup)) as writer:
        simulation = Simulation(prepared, stopwatch=stopwatch, sinks=(Recorder(writer),))
        result = simulation.run()
    return result, read_history(folder)


def exported(setup: Setup, data_dir: Path, folder: Path) -> History:
    """What `hocket export --history` writes of an aggregator's folder."""
    write_history(setup, data_dir, folder)
    return read_history(folder)


def entries(history: History) -> Iterator[Entry]:
    return (found.entry for found in history.entries())
