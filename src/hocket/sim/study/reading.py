"""A study file becomes a Study, or a TaskError that says what to correct."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hocket.errors import TaskError
from hocket.sim.fleet import FleetFile
from hocket.sim.study.kinds import by_kind
from hocket.sim.study.study import Dataset, Method, Study, Tuning
from hocket.task.document import parse_document, read_document

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_study(path: Path) -> bool:
    """Whether a file is a study rather than a fleet. Raises TaskError for what is no TOML."""
    _, document = read_document(path.absolute(), "study or fleet file")
    return not document.keys().isdisjoint({"dataset", "method", "scale"})


def read_study(path: Path | str) -> Study:
    """Read a study file, but not the files that it names.

    Raises TaskError naming file and key, or file and line.
    """
    file = Path(path).absolute()
    _, document = read_document(file, "study file")
    if "name" not in document and NAME.fullmatch(file.stem):
        document["name"] = file.stem
    return replace(parse_document(document, Study, file), origin=file)


def study_of(
    fleet: FleetFile,
    strategies: Sequence[str],
    seeds: Sequence[int],
    task: Path | None = None,
) -> Study:
    """Strategies by their kinds and with their defaults, on the fleet of a file: nothing is tuned.

    The task is `task`, else the fleet's own. The first strategy is the one that the others are
    set against. Raises TaskError for an unknown strategy, or one or a seed that is named twice.
    """
    if fleet.origin is None:
        raise TaskError("a fleet that was not read from a file cannot be compared on")
    dataset = Dataset(
        name=fleet.name,
        fleet=str(fleet.origin),
        task=None if task is None else str(task.absolute()),
        targets=fleet.run.targets,
    )
    return Study(
        datasets=(dataset,),
        methods=tuple(
            Method(name=kind, changes=by_kind(kind, fleet.num_devices)) for kind in strategies
        ),
        seeds=tuple(seeds),
        name=fleet.name,
        compared=strategies[0],
        tuning=Tuning(seed=min(seeds) - 1),  # nobody's: nothing is tuned
        origin=fleet.origin,
    )
