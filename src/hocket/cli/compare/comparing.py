"""One comparison from its files to its results. Needs torch, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hocket_aggregator.settings import data_roots
from rich.console import Console

from hocket.cli.bench.environment import environment
from hocket.cli.compare.carrier import Carrier
from hocket.cli.compare.engine import Engine
from hocket.cli.compare.markdown import write_report
from hocket.cli.compare.on_ray import OnRay
from hocket.cli.compare.page import PAGE_FILE, ROWS_FILE, rows_text, write_comparison
from hocket.cli.compare.places import JOBS, check_places, unwritable
from hocket.cli.compare.processes import Processes
from hocket.cli.compare.progress import Shown
from hocket.cli.compare.words import cells, chance, header, statements
from hocket.cli.compare.worker import simulating
from hocket.errors import HocketError, TaskError
from hocket.sim.fleet import read_fleet
from hocket.sim.study.jobs import Job, JobFiles, Row
from hocket.sim.study.planning import Plan
from hocket.sim.study.reading import is_study, read_study, study_of
from hocket.sim.study.study import Scale, Study
from hocket.sim.study.sweeping import Findings, sweep
from hocket.sim.torch_device import DeviceName, check_device

STRATEGIES = ("fedasmu", "fedasync", "fedbuff", "fedavg")
NUM_SEEDS = 3
STUDIES = Path("runs") / "studies"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for."""

    file: Path
    strategies: tuple[str, ...] = ()  # empty: the study's methods, or STRATEGIES
    seeds: int | tuple[int, ...] | None = None  # how many, which ones; None: the study's, or 3
    task: Path | None = None
    lanes: int = 2
    on_ray: bool = False
    scale: str | None = None
    device: DeviceName | None = None  # None: as the fleet has it
    out: Path | None = None
    report: Path | None = None
    command: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What is shown at the end."""

    tables: tuple[tuple[str, list[str], list[list[str]]], ...]  # title, head, rows
    statements: tuple[str, ...]
    failures: tuple[str, ...]
    files: tuple[tuple[str, Path], ...]  # what they are, and where
    rows_text: str


def compare(wishes: Wishes, console: Console, engine: Engine[Job, Row] | None = None) -> Done:
    """Run what has not been run, and write the results.

    `engine` takes the place of the one that the wishes name. Raises TaskError before anything is
    run, StartupError for a folder that cannot be written.
    """
    plan = plan_of(wishes)
    folder = wishes.out or STUDIES / _folder_name(plan)
    check_places(folder, wishes.report)
    engine = engine or _engine(wishes, plan.device)
    with Shown(console) as shown, engine:
        carrier = Carrier(plan, JobFiles(folder / JOBS), engine, shown)
        carrier.check()
        carrier.calibrate()
        findings = sweep(plan, carrier)
    if not findings.tables:
        first, message = findings.failures[0]
        raise HocketError(f"every run failed, {first.name} for one: {message}")
    return Done(
        tables=tuple(
            (table.dataset, header(table), [cells(table, one) for one in table.standings])
            for table in findings.tables
        ),
        statements=(
            *(line for table in findings.told for line in statements(table)),
            *chance(findings.told),
        ),
        failures=tuple(f"{job.name}: {message}" for job, message in findings.failures),
        files=tuple(_written(findings, wishes, folder)),
        rows_text=rows_text(findings),
    )


def plan_of(wishes: Wishes) -> Plan:
    """What is to be run. Raises TaskError."""
    if is_study(wishes.file):
        study = _chosen_of(read_study(wishes.file), wishes.strategies)
        scale = study.default_scale if wishes.scale is None else wishes.scale
        seeds = wishes.seeds or ()
        if wishes.task is not None:
            raise TaskError("--task is for a fleet; a study's datasets name their own tasks")
        if isinstance(seeds, int):
            seeds = _first_seeds(study, study.scales.get(scale, Scale()), seeds)
    else:
        fleet = read_fleet(wishes.file)
        if wishes.scale is not None:
            raise TaskError(f"--scale is for a study, and {wishes.file} is a fleet")
        wanted = NUM_SEEDS if wishes.seeds is None else wishes.seeds
        seeds = tuple(range(fleet.seed, fleet.seed + wanted)) if isinstance(wanted, int) else wanted
        study = study_of(fleet, wishes.strategies or STRATEGIES, seeds, wishes.task)
        scale = ""
    plan = Plan(
        study,
        scale,
        seeds,
        data_folders=tuple(map(str, data_roots())),
        code_folders=(str(Path.cwd()),),
    )
    return replace(plan, device=wishes.device or _device_of(plan))


def _device_of(plan: Plan) -> DeviceName:
    """What the [run] of the fleets says. Raises TaskError for fleets of which each says another."""
    named = {fleet.run.device for fleet in plan.fleets}
    if len(named) > 1:
        raise TaskError(
            "the fleets of the study's datasets have different devices under [run]; choose one "
            "for all with --device cpu or --device cuda"
        )
    return named.pop()


def _engine(wishes: Wishes, device: DeviceName) -> Engine[Job, Row]:
    """Raises TaskError where the device is not there, StartupError without Ray."""
    if wishes.on_ray:
        return OnRay(simulating, device)
    check_device(device)
    return Processes(wishes.lanes, simulating)


def _chosen_of(study: Study, names: Sequence[str]) -> Study:
    """The study with those of its methods alone. Raises TaskError."""
    if not names:
        return study
    known = [method.name for method in study.methods]
    for name in names:
        if name not in known:
            raise TaskError(f"the study has no method {name!r}; choose {', '.join(known)}")
    scales = {
        name: replace(scale, methods=tuple(one for one in scale.methods if one in names))
        for name, scale in study.scales.items()
    }
    compared = study.compared if study.compared in names else names[0]
    return replace(
        study,
        methods=tuple(method for method in study.methods if method.name in names),
        compared=compared,
        claims=study.claims if compared == study.compared else None,
        contrasts=tuple(
            replace(one, against=against)
            for one in study.contrasts
            if one.method in names
            and (against := tuple(name for name in one.against if name in names))
        ),
        scales=scales,
    )


def _first_seeds(study: Study, scale: Scale, count: int) -> tuple[int, ...]:
    seeds = scale.seeds or study.seeds
    if count > len(seeds):
        raise TaskError(
            f"--seeds {count}: the study has {len(seeds)}; name more yourself, with commas between"
        )
    return seeds[:count]


def _folder_name(plan: Plan) -> str:
    """Every scale has a folder of its own but the default one, which has the study's name."""
    scale = plan.scale_name
    return plan.study.name if scale == plan.study.default_scale else f"{plan.study.name}-{scale}"


def _written(findings: Findings, wishes: Wishes, folder: Path) -> list[tuple[str, Path]]:
    """Write everything; what it is, and where. Raises StartupError."""
    files = [("figures", folder / PAGE_FILE), ("numbers", folder / ROWS_FILE)]
    try:
        write_comparison(findings, wishes.command, folder)
        if wishes.report is not None:
            wishes.report.parent.mkdir(parents=True, exist_ok=True)
            write_report(findings, environment(), wishes.report)
            files.append(("report", wishes.report))
    except OSError as cause:
        raise unwritable(Path(cause.filename or folder), cause) from cause
    return files
