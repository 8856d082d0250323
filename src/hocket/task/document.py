"""A TOML document, and the dataclass it is parsed into: whatever is wrong is a TaskError.

What reading takes of memory follows the document's length, which has a limit: at most about
BYTES_PER_CHARACTER, which short keys of many parts come near.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from hocket.errors import HocketError, TaskError
from hocket.task.complaints import complaints, reserved

T = TypeVar("T")

MOST_CHARACTERS = 1024 * 1024
BYTES_PER_CHARACTER = 512
MOST_PARTS = 16  # of a dotted key: tomllib takes room for every beginning of one
_PART = r"""[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'"""
_LONG_KEY = re.compile(rf"(?<![\w\\-])(?:(?:{_PART})[ \t]*+\.[ \t]*+){{{MOST_PARTS}}}")


def read_document(file: Path, what: str) -> tuple[str, dict[str, Any]]:
    """The text of a TOML file and what it says; `what` the file is for, in complaints.

    Raises TaskError naming the file, and the line of a slip.
    """
    try:
        with file.open(encoding="utf-8") as stored:
            text = stored.read(MOST_CHARACTERS + 1)
        _check_size(text, file, what)
        return text, tomllib.loads(text)
    except FileNotFoundError as error:
        raise TaskError(f"there is no {what} {file}; check the path") from error
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"{file} is no valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"the {what} {file} cannot be read: {error}") from error
    except ValueError as error:  # of no other kind: Python reads no number of so many digits
        raise TaskError(f"{file} has a number of thousands of digits; write it shorter") from error
    except RecursionError as error:
        raise TaskError(f"{file} nests tables or arrays too deep; write it flatter") from error


def parse_document(document: Mapping[str, Any], owner: type[T], file: Path) -> T:
    """The `owner` that a document describes. Raises TaskError naming file and keys."""
    if complaint := reserved(document, owner):
        raise TaskError(f"{file}: {complaint}")
    try:
        # By way of JSON: pydantic then takes arrays for tuples, yet no "3" for 3.
        as_json = json.dumps(document, default=str)
    except ValueError as error:  # hexadecimal ones are read, however long
        raise TaskError(f"{file} has a number of thousands of digits; write it shorter") from error
    except RecursionError as error:
        raise TaskError(f"{file} nests tables or arrays too deep; write it flatter") from error
    try:
        adapter = _adapter(cast("Any", owner))
        return cast("T", adapter.validate_json(as_json))
    except ValidationError as error:
        raise TaskError("\n".join(f"{file}: {line}" for line in complaints(error, owner))) from None
    except RecursionError as error:
        raise TaskError(f"{file} nests tables or arrays too deep; write it flatter") from error
    except HocketError as error:  # a value out of its range, or two that contradict each other
        raise TaskError(f"{file}: {error.message}") from error


def _check_size(text: str, file: Path, what: str) -> None:
    """Before anything is made of it. Raises TaskError."""
    if len(text) > MOST_CHARACTERS:
        raise TaskError(
            f"the {what} {file} is longer than {MOST_CHARACTERS} characters; check the path"
        )
    if found := _LONG_KEY.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise TaskError(
            f"{file} has a key of more than {MOST_PARTS} parts on line {line}; write it flatter"
        )


@cache
def _adapter(owner: type) -> TypeAdapter[Any]:
    return TypeAdapter(owner)
