"""One search from its task to its table. Needs torch and pymoo, which take seconds to import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from hocket_aggregator.settings import data_roots
from rich.console import Console

from hocket.cli.compare.engine import Engine, Work
from hocket.cli.compare.on_ray import OnRay
from hocket.cli.compare.places import try_file, unwritable
from hocket.cli.compare.processes import Processes
from hocket.cli.dropout.findings import Candidate, Findings
from hocket.cli.dropout.jobs import Common, Job, JobFiles, Place, Row
from hocket.cli.dropout.measuring import step_seconds
from hocket.cli.dropout.page import FIGURE_FILE, NUMBERS_FILE, PAGE_FILE, write_search
from hocket.cli.dropout.progress import Shown
from hocket.cli.dropout.searcher import Searcher
from hocket.cli.dropout.settings import Settings
from hocket.cli.dropout.trying import (
    Material,
    gather,
    make_snapshots,
    read_snapshots,
    read_task,
    task_digest,
    trying,
    write_snapshots,
)
from hocket.learn.submodels.cost import forward_cost
from hocket.task.dropout_table import (
    FORMAT,
    DropoutTableFile,
    TableGroup,
    TableRow,
    write_dropout_table,
)

SEARCHES = Path("runs") / "dropout"
JOBS = "jobs"
TABLE_FILE = "table.toml"

MakeEngine = Callable[[Callable[[], Work[Job, Row]]], Engine[Job, Row]]
"""From how a worker gets its work to who carries it out."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for."""

    task: Path | None  # None: the digits
    settings: Settings
    lanes: int = 2
    on_ray: bool = False
    measure: bool = False  # seconds of a step, too
    out: Path | None = None  # None: runs/dropout/NAME
    table: Path | None = None  # None: table.toml in that folder
    command: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """A search that is over, and what it wrote."""

    findings: Findings
    task: str
    files: tuple[tuple[str, Path], ...]  # what they are, and where


def search(wishes: Wishes, console: Console, make_engine: MakeEngine | None = None) -> Done:
    """Try what has not been tried, and write the table, the page and the numbers.

    `make_engine` takes the place of the engine that the wishes name. Raises TaskError, DataError
    or ModelError before anything is tried, StartupError for a place that cannot be written to.
    """
    torch.set_num_threads(1)  # bits must not depend on how many there are
    place = Place(
        None if wishes.task is None else str(wishes.task.absolute()),
        "",
        tuple(map(str, data_roots())),
        (str(Path.cwd()),),
    )
    settings = wishes.settings
    material = gather(read_task(place), settings.examples)
    cost = forward_cost(material.module, material.graph, material.learning.input_shape)
    task, model = material.task, material.graph.manifest.digest
    folder = wishes.out or SEARCHES / task.name
    table_file = wishes.table or folder / TABLE_FILE
    _check_places(folder, table_file)
    common = Common.of(settings, task_digest(task), model)
    file = folder / f"snapshots-{common.snapshot_key}.safetensors"
    place = replace(place, snapshot_file=str(file.absolute()))
    planned = settings.population * (settings.generations + 1)
    planned += 2 * (settings.population + settings.grid)  # at most so many
    make_work = partial(trying, place, settings.examples)
    engine = make_engine(make_work) if make_engine else _engine(wishes, make_work)
    with Shown(console, planned) as shown, engine:
        _prepare(material, common, file, shown)
        jobs = JobFiles(folder / JOBS)
        findings = Searcher(settings, common, place, cost, jobs, engine, shown).run()
    if wishes.measure:
        findings = _measured(findings, material)
    try:
        table_file.parent.mkdir(parents=True, exist_ok=True)
        write_dropout_table(table_file, _table(findings, material, wishes.command))
        write_search(findings, task.name, wishes.command, folder)
    except OSError as cause:
        raise unwritable(Path(cause.filename or folder), cause, "--table") from cause
    files = (
        ("table", table_file),
        ("figures", folder / PAGE_FILE),
        ("numbers", folder / NUMBERS_FILE),
    )
    return Done(findings, task.name, files)


def _engine(wishes: Wishes, make_work: Callable[[], Work[Job, Row]]) -> Engine[Job, Row]:
    """Raises StartupError without Ray."""
    return OnRay(make_work) if wishes.on_ray else Processes(wishes.lanes, make_work)


def _prepare(material: Material, common: Common, file: Path, shown: Shown) -> None:
    """See that the snapshots are there. Raises NotFinite, StartupError or CorruptState."""
    count, size = len(common.snapshots), material.graph.manifest.size
    if file.exists():
        read_snapshots(file, count, size)
        return
    shown.say(f"training the {count} snapshots from which vectors are tried")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_snapshots(file, make_snapshots(material, common))
    except OSError as cause:
        raise unwritable(file, cause, "--table") from cause


def _measured(findings: Findings, material: Material) -> Findings:
    known = [*findings.front, *findings.uniform.values()]
    seconds = step_seconds(material, [one.sizes for one in known])

    def measured(one: Candidate) -> Candidate:
        return replace(one, seconds=seconds[one.sizes])

    return replace(
        findings,
        front=tuple(map(measured, findings.front)),
        uniform={rate: measured(one) for rate, one in findings.uniform.items()},
    )


def _table(findings: Findings, material: Material, command: str) -> DropoutTableFile:
    settings = findings.settings
    return DropoutTableFile(
        format=FORMAT,
        model=material.graph.manifest.digest,
        group=tuple(TableGroup(group.name, group.size) for group in material.graph.groups),
        row=tuple(
            TableRow(one.cost, one.score(settings.score), one.vector, one.seconds)
            for one in findings.front
        ),
        task=material.task.name,
        command=command,
        seed=settings.seed,
        settings=settings.values,
    )


def _check_places(folder: Path, table: Path) -> None:
    """Whether all can be written, before hours are spent on it. Raises StartupError."""
    names = (PAGE_FILE, NUMBERS_FILE, FIGURE_FILE, f"{JOBS}/one.json")
    for file in (*(folder / name for name in names), table):
        try:
            try_file(file)
        except OSError as cause:
            raise unwritable(file, cause, "--table") from cause
