"""The report of a study as a page of the documentation: FILE.md, FILE.json and their figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hocket.cli.bench.environment import Environment
from hocket.cli.compare.figures import accuracy_figure
from hocket.cli.compare.page import rows_text
from hocket.cli.compare.words import (
    NOTHING,
    cells,
    chance,
    changes_text,
    header,
    share,
    statements,
    unbroken,
)
from hocket.cli.output import in_time
from hocket.cli.report.page import write_text
from hocket.sim.scenario import Scenario
from hocket.sim.study.results import LAST, LEVEL, Table
from hocket.sim.study.scenarios import scenario_for
from hocket.sim.study.study import Method, flat
from hocket.sim.study.sweeping import Findings, Tuned
from hocket.sim.study.tuning import fixed
from hocket.task.changes import layered


def write_report(findings: Findings, machine: Environment, file: Path) -> None:
    """Write the page, the rows beside it and a figure for each dataset. Raises OSError."""
    for table in findings.tables:
        write_text(_figure_file(file, table), accuracy_figure(table))
    write_text(file.with_suffix(".json"), rows_text(findings))
    lines = _lines(findings, machine, file)
    write_text(file, "\n".join(lines) + "\n")


def _figure_file(file: Path, table: Table) -> Path:
    return file.with_name(f"{file.stem}-{table.dataset}.svg")


def _lines(findings: Findings, machine: Environment, file: Path) -> Iterator[str]:
    plan = findings.plan
    yield f"# {plan.study.title or plan.study.name}"
    yield ""
    yield f"Made by `{machine.command}`: all numbers come from its runs, all sentences too."
    yield f"The rows are in [{file.stem}.json]({file.stem}.json)."
    yield ""
    yield "## In short"
    yield ""
    for table in findings.told:
        yield from (f"- {line}" for line in statements(table))
    yield from (f"- {line}" for line in chance(findings.told))
    yield ""
    for table in findings.tables:
        yield from _dataset(findings, table, file)
    yield from _rules(findings)
    yield from _tuning(findings)
    yield from _notes(findings)
    yield from _failures(findings)
    yield from _machine(findings, machine)


def _dataset(findings: Findings, table: Table, file: Path) -> Iterator[str]:
    yield f"## {table.dataset}"
    yield ""
    jobs = findings.plan.report_jobs({})
    yield _setting(scenario_for(next(job for job in jobs if job.dataset == table.dataset)))
    yield ""
    figure = _figure_file(file, table).name
    yield f"![{table.dataset}: accuracy over virtual time, mean and standard deviation]({figure})"
    yield ""
    rows = [unbroken(cells(table, standing)) for standing in table.standings]
    yield from _table(unbroken(header(table)), rows)
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
    yield "## How it is judged"
    yield ""
    seeds = ", ".join(map(str, findings.plan.run_seeds))
    yield f"- Seeds: {seeds}. Spread is one standard deviation over them."
    yield f"- Final accuracy: the mean of a run's last {LAST} evaluations."
    yield from _targets(findings)
    yield (
        "- Time to a target: virtual seconds until the first evaluation that is at least as good."
    )
    if any(table.compared for table in findings.tables):  # else there are no such columns
        yield (
            f"- ahead: percentage points by which {study.compared} is ahead of the method in its "
            f"row; it: whether {study.compared} wins, ties or loses. Differences are paired by "
            f"seed; a tie is what Student's t-test, two-sided at {share(LEVEL)}, does not tell "
            "from no difference."
        )
        yield (
            f"- saved: the share of that method's time which {study.compared} saves, over the "
            "seeds with which both get there. In time, a method that gets there with every seed "
            "beats one that does not."
        )
    yield ""


def _targets(findings: Findings) -> Iterator[str]:
    """For each data set where its targets come from."""
    study = findings.plan.study
    own = {dataset.name for dataset in findings.plan.datasets if dataset.targets}
    rule = " and ".join(f"{100 * part:g} %" for part in study.targets.shares)
    for table in findings.tables:
        if not table.targets:
            continue
        named = ", ".join(map(share, table.targets))
        source = (
            "named beforehand"
            if table.dataset in own
            else f"by a rule, {rule} of the median method's final accuracy, rounded down to "
            f"{share(study.targets.step)}"
        )
        yield f"- Targets on {table.dataset}: {named}, {source}."


def _tuning(findings: Findings) -> Iterator[str]:
    plan = findings.plan
    yield "## What was tried"
    yield ""
    yield _how_tuned(findings)
    for method in plan.methods:
        if method.follows:
            yield f"{method.name} takes the point of {method.follows}."
    if common := layered(flat(plan.study.changes), flat(plan.scale.changes)):
        yield f"For every method, unless its row says otherwise: {changes_text(common)}."
    yield ""
    yield from _table(
        ["method", "tuning runs", "fixed beforehand, where it is not the default"],
        [
            [method.name, _runs(findings, method), _fixed(fixed(plan.study, plan.scale, method))]
            for method in plan.methods
        ],
    )
    yield ""
    if findings.tuned:
        yield from _table(
            ["dataset", "method", "points and what they came to", "trainings"],
            [[one.dataset, one.method, _points(one), str(one.trainings)] for one in findings.tuned],
        )
        yield ""


def _how_tuned(findings: Findings) -> str:
    """How points were chosen, and whether every method had as many runs for it."""
    if not findings.tuned:
        return "Nothing was tuned: each method has the first point of its grid, or has no grid."
    tuning = findings.plan.study.tuning
    keys = {key for one in findings.tuned for key in one.keys}
    trainings = sum(findings.ran[key].trainings for key in keys & findings.ran.keys())
    runs = sorted({len(one.distinct) for one in findings.tuned})
    tuned = {one.method for one in findings.tuned}
    untuned = [one.name for one in findings.plan.methods if not one.follows]
    untuned = [name for name in untuned if name not in tuned]
    budget = f"{runs[0]}" if len(runs) == 1 else f"from {runs[0]} to {runs[-1]}"
    text = (
        f"Each different point of a method's grid ran once with seed {tuning.seed}, which no "
        f"reported run has, for {tuning.horizon:g} of the horizon; the best mean of the last "
        f"{tuning.last} evaluations was taken (in bold). A method had {budget} such runs on a data "
        f"set; in all they were {len(keys)}, with {trainings} trainings."
    )
    return f"{text} Not tuned: {', '.join(untuned)}." if untuned else text


def _runs(findings: Findings, method: Method) -> str:
    """How many different tuning runs a method had, data set by data set."""
    mine = [one for one in findings.tuned if one.method == method.name]
    return ", ".join(f"{len(one.distinct)} on {one.dataset}" for one in mine) or "none"


def _fixed(changes: dict[str, Any]) -> str:
    return changes_text(changes) if changes else NOTHING


def _notes(findings: Findings) -> Iterator[str]:
    notes = findings.plan.study.notes
    if not notes:
        return
    yield "## Notes"
    yield ""
    yield from (f"- {note}" for note in notes)
    yield ""


def _points(tuned: Tuned) -> str:
    found = []
    for at in tuned.distinct:
        point, score = tuned.points[at], tuned.scores[at]
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


def _machine(findings: Findings, machine: Environment) -> Iterator[str]:
    scale = findings.plan.scale_name or NOTHING
    yield "## The code and the machine"
    yield ""
    yield f"Scale {scale}, on {findings.plan.device}, one thread for each run."
    yield from _made(findings)
    yield (
        f"This page was written by {machine.commit or f'Hocket {machine.hocket}'} with Python "
        f"{machine.python}; the runs may be older."
    )
    yield f"All runs together took {in_time(findings.process_s)} of processors' time, summed."
    if findings.wall_s is not None:
        yield (
            f"From the start of the first to the end of the last it was {in_time(findings.wall_s)} "
            "of wall time; gaps of over a minute, in which none ran, are left out."
        )


def _made(findings: Findings) -> Iterator[str]:
    """By which code, and where, the rows were made."""
    rows = findings.ran.values()
    known = Counter(
        f"code {row.made.code}, torch {row.made.torch}, {row.made.machine}"
        for row in rows
        if row.made is not None
    )
    missing = len(rows) - known.total()
    if len(known) + bool(missing) > 1:
        yield "The runs are mixed: they were not all made by the same code on the same machine."
    yield from (f"{number} of {len(rows)} runs: {what}." for what, number in known.most_common())
    if missing:
        yield f"{missing} of {len(rows)} runs: code, torch, machine and time are not recorded."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
