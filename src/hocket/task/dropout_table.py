"""The file of dropout vectors that `hocket dropout search` writes and devices choose from.

Rapp, Khalili, Pfeiffer, Henkel. DISTREAL: Distributed Resource-Aware Learning in Heterogeneous
Systems. AAAI 2022. The rows are a Pareto front of training cost and convergence speed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from hocket.core.manifest import Manifest
from hocket.errors import TaskError
from hocket.task.document import parse_document, read_document

FORMAT = 1
WHAT = "dropout table"
HEAD = f"""\
# Dropout vectors, the cheapest first: drop[g] of a [[row]] is the share of the channels of the g-th
# [[group]] that a mini-batch does without, cost what its step costs beside one of the whole model,
# score how far the loss falls. Task files name it: [submodel] kind = "distreal", table = "FILE".
format = {FORMAT}
"""


@dataclass(frozen=True, slots=True)
class TableGroup:
    """Channels that are dropped together."""

    name: str  # the layer that makes them first
    size: int  # K, the number of channels


@dataclass(frozen=True, slots=True)
class TableRow:
    """A dropout vector, and what it came to in the search."""

    cost: float  # M, multiply-accumulates of a step relative to the whole model's, in (0, 1]
    score: float  # C, mean fall of the held-out loss over the trials; larger is better
    drop: tuple[float, ...]  # one share in [0, 1] for each group
    seconds: float | None = None  # of one step, on the machine that searched; None: not measured


@dataclass(frozen=True)
class DropoutTableFile:
    """A table with what it was made for and how. Rows are in ascending order of cost."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: int
    model: str  # digest of the manifest of the model that it is made for
    group: tuple[TableGroup, ...]
    row: tuple[TableRow, ...]
    task: str = ""  # name of the task that was searched for
    command: str = ""  # that made it
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)  # of the search
    origin: Path | None = None  # not from the file, but where it was read

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise TaskError(
                f"format is {self.format}, and this Hocket reads format {FORMAT}; search again "
                "with `hocket dropout search`, or take the Hocket that wrote it"
            )
        if not self.group:
            raise TaskError("group is empty; a model of which nothing can be dropped has no table")
        if not self.row:
            raise TaskError("row is empty; a table needs a dropout vector")
        for complaint in self._complaints():
            raise TaskError(complaint)

    @property
    def rows(self) -> tuple[tuple[float, ...], ...]:
        """The dropout vectors, one share in [0, 1] for each group, the cheapest first."""
        return tuple(row.drop for row in self.row)

    def check(self, manifest: Manifest, groups: Sequence[str]) -> None:
        """Hold the table against a model and the names of its groups, in the graph's order.

        Raises:
            TaskError: it is made for another model; the message names file and key.
        """
        where = f"{self.origin}: " if self.origin else ""
        if manifest.digest != self.model:
            raise TaskError(
                f"{where}model is {self.model}, and the task's model is {manifest.digest}: the "
                "table is made for another model; search one for this task with "
                "`hocket dropout search`"
            )
        named = tuple(group.name for group in self.group)
        if named != tuple(groups):
            raise TaskError(
                f"{where}group names {', '.join(named)}, and the model's groups are "
                f"{', '.join(groups) or 'none'}; search a table for this task with "
                "`hocket dropout search`"
            )

    def _complaints(self) -> Iterator[str]:
        """What is wrong with the groups and rows, each with its key."""
        for number, group in enumerate(self.group):
            if group.size < 1:
                yield f"group[{number}].size is {group.size}; a group has at least one channel"
        before = 0.0
        for number, row in enumerate(self.row):
            yield from (f"row[{number}].{text}" for text in _complaints(row, len(self.group)))
            if row.cost < before:
                yield (
                    f"row[{number}].cost is {row.cost}, below that of the row before it; sort rows "
                    "by cost"
                )
            before = row.cost


def _complaints(row: TableRow, groups: int) -> Iterator[str]:
    """What is wrong with one row, each with its key."""
    if not 0.0 < row.cost <= 1.0:
        yield f"cost is {row.cost}; it lies above 0 and is at most 1"
    if not math.isfinite(row.score):
        yield f"score is {row.score}; it must be a finite number"
    if row.seconds is not None and not row.seconds > 0.0:
        yield f"seconds is {row.seconds}; it must be above 0"
    if len(row.drop) != groups:
        yield f"drop has {len(row.drop)} shares, and there are {groups} groups; give one for each"
    for at, share in enumerate(row.drop):
        if not 0.0 <= share <= 1.0:
            yield f"drop[{at}] is {share}; a share lies between 0 and 1"


def read_dropout_table(path: Path) -> DropoutTableFile:
    """Read a table. `check` says whether it suits a model.

    Raises:
        TaskError: the file is missing, no TOML, or holds a wrong vector; it names file and key.
    """
    _, document = read_document(path, WHAT)
    if isinstance(found := document.get("format"), int) and found != FORMAT:
        document = {"format": found, "model": "", "group": [], "row": []}  # its keys may be others
    return replace(parse_document(document, DropoutTableFile, path), origin=path)


def write_dropout_table(path: Path, table: DropoutTableFile) -> None:
    """Write a table, whole or not at all. Raises OSError."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(_toml(table), encoding="utf-8")
    partial.replace(path)


def _toml(table: DropoutTableFile) -> str:
    lines = [HEAD + f"model = {_value(table.model)}"]
    lines += [f"{key} = {_value(getattr(table, key))}" for key in ("task", "command", "seed")]
    lines += ["", "[settings]"]
    lines += [f"{key} = {_value(value)}" for key, value in table.settings.items()]
    for group in table.group:
        lines += ["", "[[group]]", f"name = {_value(group.name)}", f"size = {group.size}"]
    for row in table.row:
        lines += ["", "[[row]]", f"cost = {_value(row.cost)}", f"score = {_value(row.score)}"]
        if row.seconds is not None:
            lines.append(f"seconds = {_value(row.seconds)}")
        lines.append(f"drop = {_value(row.drop)}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """Text, numbers, truth and arrays of them are written alike in JSON and TOML."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
