"""One simulation from its files to its run's folder. Needs torch, which takes seconds to import."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hocket_aggregator.recovery.origin import Origin
from hocket_aggregator.settings import data_roots
from rich.console import Console

from hocket.cli.garbage import few_collections
from hocket.cli.history import TASK_FILE, note_of, seed_of, task_of
from hocket.cli.report.page import write_json
from hocket.cli.report.sim_page import write_report
from hocket.cli.sim_progress import view_of
from hocket.core.ids import DeviceId
from hocket.errors import StartupError
from hocket.sim.fleet import DevicePlan, read_fleet
from hocket.sim.fleet.file import VirtualStop
from hocket.sim.history import History, HistoryWriter, Recorder, beginning_of, read_history
from hocket.sim.preparing import Prepared, prepare
from hocket.sim.result import Result
from hocket.sim.run_folder import RunFolder
from hocket.sim.scenario import Scenario, scenario_of
from hocket.sim.server import Sink
from hocket.sim.simulation import Simulation
from hocket.sim.summary import summarise
from hocket.sim.tally import Tally
from hocket.sim.timing import Replay, plans_of
from hocket.sim.trace import FULL, UPDATES, TraceWriter
from hocket.sim.tracer import Kind, Several
from hocket.task import default_task, load_task

KINDS: Mapping[str, Collection[Kind]] = {"none": (), "updates": UPDATES, "full": FULL}
SUMMARY_FILE = "summary.json"
TRACE_FILE = "trace.parquet"
HISTORY_FOLDER = "history"
LEAST_S = 1e-9  # a history of no length


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for."""

    fleet: Path
    task: Path | None  # None: the fleet's, else the digits
    changes: Mapping[str, Any]  # to the task, by dotted keys
    seed: int | None  # None: that of the history to be replayed, else the fleet's
    runs: Path
    trace: str  # one of KINDS
    command: str
    record: bool = False  # or as the fleet has it
    replay: Path | None = None  # a history whose timing is to be lived through


@dataclass(frozen=True, slots=True)
class Run:
    """A simulation that is over, and what it left behind."""

    result: Result
    summary: dict[str, Any]
    folder: Path


def simulate(wishes: Wishes, console: Console) -> Run:
    """Read everything, simulate, write the run's folder: whole, or not at all.

    Raises TaskError, DataError, ModelError, and NotFound or CorruptState for a history, before
    anything is written, StartupError for a folder that cannot be.
    """
    torch.set_num_threads(1)  # bits must not depend on how many there are
    began_s = time.perf_counter()
    history = None if wishes.replay is None else read_history(wishes.replay)
    prepared = _prepare(wishes, history)
    cast = None if history is None else Cast(history, plans_of(history, prepared))
    data_s = time.perf_counter() - began_s
    if cast is None:
        tally = Tally.of(prepared.scenario.fleet, prepared.roster)
    else:
        tally = Tally(cast.class_of)
    with RunFolder(wishes.runs, _name(prepared.scenario)) as folder:
        try:
            result = _simulate(prepared, cast, wishes, tally, folder.path, console)
            summary = summarise(result, command=wishes.command, data_s=data_s)
            write_json(folder.path / SUMMARY_FILE, summary)
            write_report(result, tally, summary, folder.path)
        except OSError as cause:
            why = cause.strerror or cause
            raise StartupError(
                f"{folder.path} cannot be written: {why}; choose another with --runs"
            ) from cause
    return Run(result, summary, folder.path)


@dataclass(frozen=True, slots=True)
class Cast:
    """A history, and who of the fleet plays whom in it."""

    history: History
    plans: Mapping[DeviceId, DevicePlan]

    def class_of(self, device_id: str) -> str:
        """The name of a device's class."""
        return self.plans[DeviceId(device_id)].device_class.name


def _prepare(wishes: Wishes, history: History | None) -> Prepared:
    fleet = read_fleet(wishes.fleet)
    if history is not None:  # which ends it, and nothing else
        fleet = replace(fleet, stop=VirtualStop(virtual_s=max(history.lasts_s(), LEAST_S)))
    file = wishes.task or fleet.task_file
    if file is None and history is not None:
        task = task_of(history, wishes.changes)
    elif file is None:
        task = default_task(wishes.changes)
    else:
        folders, code = data_roots(), (Path.cwd(),)
        task = load_task(file, data_folders=folders, code_folders=code, changes=wishes.changes)
    seed = wishes.seed
    if seed is None and history is not None:
        seed = seed_of(history)
    return prepare(scenario_of(task, fleet, seed=seed))


def _name(scenario: Scenario) -> str:
    moment = time.strftime("%Y%m%d-%H%M%S")
    return f"{scenario.fleet.name}-{scenario.task.strategy.kind}-{scenario.seed}-{moment}"


def _simulate(
    prepared: Prepared,
    cast: Cast | None,
    wishes: Wishes,
    tally: Tally,
    folder: Path,
    console: Console,
) -> Result:
    about = {"command": wishes.command, "seed": str(prepared.scenario.seed)}
    kinds = KINDS[wishes.trace]
    writing = TraceWriter(folder / TRACE_FILE, kinds, about) if kinds else nullcontext()
    with ExitStack() as stack:
        writer = stack.enter_context(writing)
        sinks: tuple[Sink, ...] = ()
        if wishes.record or prepared.scenario.fleet.run.record:
            sinks = (stack.enter_context(_recording(prepared, wishes, folder / HISTORY_FOLDER)),)
        tracer = tally if writer is None else Several(writer, tally)
        watch = stack.enter_context(view_of(prepared.scenario, console)).show
        stack.enter_context(few_collections())
        simulation: Simulation | Replay
        if cast is None:
            simulation = Simulation(
                prepared, stopwatch=time.perf_counter, tracer=tracer, watch=watch, sinks=sinks
            )
        else:
            simulation = Replay(
                prepared,
                cast.history,
                cast.plans,
                stopwatch=time.perf_counter,
                tracer=tracer,
                watch=watch,
                sinks=sinks,
            )
        tally.follow(simulation.counts)
        return simulation.run()


@contextmanager
def _recording(prepared: Prepared, wishes: Wishes, folder: Path) -> Iterator[Recorder]:
    """A history in the making, with a note of the task that it is of. Raises OSError."""
    task, seed = prepared.scenario.task, prepared.scenario.seed
    with HistoryWriter(folder, beginning_of(prepared.setup)) as writer:
        origin = Origin(str(task.origin.path or ""), str(Path.cwd()))
        note = note_of(origin, wishes.changes, seed)
        (folder / TASK_FILE).write_text(note, encoding="utf-8")
        yield Recorder(writer)
