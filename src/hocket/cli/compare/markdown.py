"""The report of a study as a page of the documentation: FILE.md, FILE.json and their figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from hocket.cli.bench.environment import Environment
from hocket.cli.compare.figures import accuracy_figure
from hocket.cli.compare.page import rows_text
from hocket.cli.compare.words import NOTHING, cells, changes_text, header, share, statements
from hocket.cli.output import in_time
from hocket.cli.report.page import write_text
from hocket.sim.scenario import Scenario
from hocket.sim.study.results import LAST, STANDARD_ERRORS, Table
from hocket.sim.study.scenarios import scenario_for
from hocket.sim.study.sweeping import Findings, Tuned


def write_report(findings: Findings, machine: Environment, lanes: int, file: Path) -> None:
    """Write the page, the rows beside it and a figure for each dataset. Raises OSError."""
    for table in findings.tables:
        write_text(_figure_file(file, table), accuracy_figure(table))
    write_text(file.with_suffix(".json"), rows_text(findings))
    lines = _lines(findings, machine, lanes, file)
    write_text(file, "\n".join(lines) + "\n")


def _figure_file(file: Path, table: Table) -> Path:
    return file.with_name(f"{file.stem}-{table.dataset}.svg")


def _lines(findings: Findings, machine: Environment, lanes: int, file: Path) -> Iterator[str]:
    plan = findings.plan
    yield f"# {plan.study.title or plan.study.name}"
    yield ""
    yield f"Made by `{machine.command}`: all numbers come from its runs, all sentences too."
    yield f"The rows are in [{file.stem}.json]({file.stem}.json)."
    yield ""
    yield "## In short"
    yield ""
    for table in findings.tables:
        yield from (f"- {line}" for line in statements(table, plan.study.claims))
    yield ""
    for table in findings.tables:
        yield from _dataset(findings, table, file)
    yield from _rules(findings)
    yield from _tuning(findings)
    yield from _failures(findings)
    yield from _machine(findings, machine, lanes)


def _dataset(findings: Findings, table: Table, file: Path) -> Iterator[str]:
    yield f"## {table.dataset}"
    yield ""
    jobs = findings.plan.report_jobs({})
    yield _setting(scenario_for(next(job for job in jobs if job.dataset == table.dataset)))
    yield ""
    figure = _figure_file(file, table).name
    yield f"![{table.dataset}: accuracy over virtual time, mean and standard deviation]({figure})"
    yield ""
    yield from _table(header(table), [cells(table, standing) for standing in table.standings])
    yield ""


def _setting(scenario: Scenario) -> str:
    task, fleet = scenario.task, scenario.fleet
    training, every_s = task.training, fleet.evaluation.every_s
    each = fleet.examples_per_device
    held = "all examples between them" if each is None else f"{each} examples each on average"
    classes = ", ".join(f"{known.name} ({known.share:g})" for known in fleet.all_classes)
    links = ", ".join(known.name for known in fleet.all_links)
    judged = "all" if task.evaluation.limit is None else str(task.evaluation.limit)
    when = "" if every_s is None else f" every {every_s:g} virtual s"
    over = "until its task ends" if scenario.virtual_s is None else f"{scenario.virtual_s:g} s long"
    return (
        f"`{task.model.function}`, {fleet.num_devices} devices, {held}, shared out by "
        f"[partition] {changes_text(asdict(task.partition))}. {training.local_epochs} local "
        f"epochs, batches of {training.batch_size}. A run is {over} in virtual time; it is "
        f"evaluated{when} on "
        f"{judged} held-out examples. Classes of devices and their weights: {classes}. Links: "
        f"{links}."
    )


def _rules(findings: Findings) -> Iterator[str]:
    study = findings.plan.study
    shares = " and ".join(f"{100 * part:g} %" for part in study.targets.shares)
    yield "## How it is judged"
    yield ""
    seeds = ", ".join(map(str, findings.plan.run_seeds))
    yield f"- Seeds: {seeds}. Spread is one standard deviation over them."
    yield f"- Final accuracy: the mean of a run's last {LAST} evaluations."
    yield (
        f"- Targets, by a rule written down before any run: {shares} of the median method's final "
        f"accuracy, rounded down to {share(study.targets.step)}. Time to a target: virtual "
        "seconds until the first evaluation that is at least as good."
    )
    if study.compared:
        yield (
            f"- ahead: percentage points by which {study.compared} is ahead of the method in its "
            f"row; it: whether {study.compared} wins, ties or loses. Differences are paired by "
            f"seed; a mean below {STANDARD_ERRORS:g} standard errors is a tie."
        )
        yield (
            f"- saved: the share of that method's time which {study.compared} saves, over the "
            "seeds with which both get there. In time, a method that gets there with every seed "
            "beats one that does not."
        )
    yield ""


def _tuning(findings: Findings) -> Iterator[str]:
    if not findings.tuned:
        return
    tuning = findings.plan.study.tuning
    trainings = sum(one.trainings for one in findings.tuned)
    followers = [one for one in findings.plan.methods if one.follows]
    yield "## What was tried"
    yield ""
    yield (
        f"Every method was tuned alike: each point of its grid ran once with seed {tuning.seed}, "
        f"which no reported run has, for {tuning.horizon:g} of the horizon; the best mean of the "
        f"last {tuning.last} evaluations was taken (in bold). That made "
        f"{sum(len(one.points) for one in findings.tuned)} runs and {trainings} trainings."
    )
    for method in followers:
        yield f"{method.name} takes the point of {method.follows}."
    yield ""
    yield from _table(
        ["dataset", "method", "points and what they came to", "trainings"],
        [[one.dataset, one.method, _points(one), str(one.trainings)] for one in findings.tuned],
    )
    yield ""


def _points(tuned: Tuned) -> str:
    found = []
    for at, (point, score) in enumerate(zip(tuned.points, tuned.scores, strict=True)):
        text = f"{changes_text(point)}: {'failed' if score is None else f'{score:.2%}'}"
        found.append(f"**{text}**" if at == tuned.chosen else text)
    return "<br>".join(found)


def _failures(findings: Findings) -> Iterator[str]:
    if not findings.failures:
        return
    yield "## What failed"
    yield ""
    yield from (f"- {job.name}: {message}" for job, message in findings.failures)
    yield ""


def _machine(findings: Findings, machine: Environment, lanes: int) -> Iterator[str]:
    scale = findings.plan.scale_name or NOTHING
    wall_s = findings.process_s / lanes
    yield "## The machine"
    yield ""
    yield (
        f"Scale {scale}, {lanes} runs at a time, one thread each, on {findings.plan.device}; "
        f"{machine.cpus} processor cores, {machine.system}, Python {machine.python}, torch "
        f"{machine.torch}, Hocket {machine.hocket} {machine.commit}".rstrip()
        + "."
    )
    yield (
        f"All runs together took {in_time(findings.process_s)} of one process: about "
        f"{in_time(wall_s)} of wall time."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
