"""A TOML document, and the dataclass it is parsed into: whatever is wrong is a TaskError."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from hocket.errors import HocketError, TaskError
from hocket.task.complaints import complaints, reserved

T = TypeVar("T")


def read_document(file: Path, what: str) -> tuple[str, dict[str, Any]]:
    """The text of a TOML file and what it says; `what` the file is for, in complaints.

    Raises TaskError naming the file, and the line of a slip.
    """
    try:
        text = file.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except FileNotFoundError as error:
        raise TaskError(f"there is no {what} {file}; check the path") from error
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"{file} is no valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"the {what} {file} cannot be read: {error}") from error
    except RecursionError as error:
        raise TaskError(f"{file} nests tables or arrays too deep; write it flatter") from error


def parse_document(document: Mapping[str, Any], owner: type[T], file: Path) -> T:
    """The `owner` that a document describes. Raises TaskError naming file and keys."""
    if complaint := reserved(document, owner):
        raise TaskError(f"{file}: {complaint}")
    try:
        # By way of JSON: pydantic then takes arrays for tuples, yet no "3" for 3.
        adapter = _adapter(cast("Any", owner))
        return cast("T", adapter.validate_json(json.dumps(document, default=str)))
    except ValidationError as error:
        raise TaskError("\n".join(f"{file}: {line}" for line in complaints(error, owner))) from None
    except RecursionError as error:
        raise TaskError(f"{file} nests tables or arrays too deep; write it flatter") from error
    except HocketError as error:  # a value out of its range, or two that contradict each other
        raise TaskError(f"{file}: {error.message}") from error


@cache
def _adapter(owner: type) -> TypeAdapter[Any]:
    return TypeAdapter(owner)
