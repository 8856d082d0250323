"""A task file becomes a Task, or a TaskError that says what to correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

from hocket.learn.data import Lookup
from hocket.task.changes import NO_CHANGES, Changes, changed
from hocket.task.document import parse_document, read_document
from hocket.task.task import DEFAULT_TRAINING, NAME, Origin, Task


def load_task(
    path: Path | str,
    *,
    data_folders: Sequence[Path] = (),
    code_folders: Sequence[Path] = (),
    changes: Changes = NO_CHANGES,
) -> Task:
    """Read a task file (TOML), with the keys that `changes` names set to other values.

    Data and modules that the file names are looked for in its own folder first, then in
    `data_folders` (what HOCKET_DATA lists) and `code_folders` (the working folder, say).
    Raises TaskError naming file and key, or file and line.
    """
    file = Path(path).absolute()
    text, document = read_document(file, "task file")
    parsed = _parse(changed(document, changes), file)
    lookup = Lookup((file.parent, *data_folders), (file.parent, *code_folders))
    return replace(parsed, origin=Origin(file, text, lookup))


def default_task(changes: Changes = NO_CHANGES) -> Task:
    """The task that a demo trains: scikit-learn's digits on a small CNN. Raises as `load_task`."""
    with resources.as_file(resources.files("hocket") / "tasks" / "digits.toml") as file:
        return load_task(file, changes=changes)


def _parse(document: dict[str, Any], file: Path) -> Task:
    filled = dict(document)
    if "name" not in filled and NAME.fullmatch(file.stem):
        filled["name"] = file.stem
    if isinstance(given := filled.get("training", {}), dict):
        filled["training"] = asdict(DEFAULT_TRAINING) | given
    return parse_document(filled, Task, file)
