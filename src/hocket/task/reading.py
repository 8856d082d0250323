"""A task file becomes a Task, or a TaskError that says what to correct."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hocket.errors import HocketError, TaskError
from hocket.learn.data import Lookup
from hocket.task.complaints import complaints, reserved
from hocket.task.task import DEFAULT_TRAINING, NAME, Origin, Task


def load_task(
    path: Path | str, *, data_folders: Sequence[Path] = (), code_folders: Sequence[Path] = ()
) -> Task:
    """Read a task file (TOML).

    Data and modules that the file names are looked for in its own folder first, then in
    `data_folders` (what HOCKET_DATA lists) and `code_folders` (the working folder, say).
    Raises TaskError naming file and key, or file and line.
    """
    file = Path(path).absolute()
    text = _text(file)
    try:
        document = tomllib.loads(text)
        parsed = _parse(document, file)
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"{file} is no valid TOML: {error}") from error
    except RecursionError as error:
        raise TaskError(f"{file} nests tables or arrays too deep; write it flatter") from error
    lookup = Lookup((file.parent, *data_folders), (file.parent, *code_folders))
    return replace(parsed, origin=Origin(file, text, lookup))


def default_task() -> Task:
    """The task that a demo trains: scikit-learn's digits on a small CNN."""
    with resources.as_file(resources.files("hocket") / "tasks" / "digits.toml") as file:
        return load_task(file)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise TaskError(f"there is no task file {file}; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"the task file {file} cannot be read: {error}") from error


def _parse(document: dict[str, Any], file: Path) -> Task:
    if complaint := reserved(document):
        raise TaskError(f"{file}: {complaint}")
    filled = dict(document)
    if "name" not in filled and NAME.fullmatch(file.stem):
        filled["name"] = file.stem
    if isinstance(given := filled.get("training", {}), dict):
        filled["training"] = asdict(DEFAULT_TRAINING) | given
    try:
        # By way of JSON: pydantic then takes arrays for tuples, yet no "3" for 3.
        return _adapter().validate_json(json.dumps(filled, default=str))
    except ValidationError as error:
        raise TaskError(
            "\n".join(f"{file}: {line}" for line in complaints(error, filled))
        ) from None
    except HocketError as error:  # a value out of its range, or two that contradict each other
        raise TaskError(f"{file}: {error.message}") from error


@cache
def _adapter() -> TypeAdapter[Task]:
    return TypeAdapter(Task)
