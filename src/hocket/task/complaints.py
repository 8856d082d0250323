"""What pydantic found wrong with a task file, in words for the person who wrote it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from hocket.task.task import Task

NOT_FROM_THE_FILE = "origin"
LONGEST_VALUE = 60
FORMERLY_DROPOUT = (
    "[dropout] is [submodel] now: write its rates there, with kind = 'distreal', and in place of "
    "enabled = false, submodel = 'full'"
)
CHOICES = (Annotated, Union, UnionType)  # what wraps one or more types of one and the same value


def complaints(error: ValidationError, owner: type = Task) -> list[str]:
    """One line for each wrong key, in the order of the file: the key, what is wrong, what to do.

    `owner` is the dataclass that the whole document is parsed into.
    """
    lines: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        place = _place(detail["loc"], owner)
        lines.setdefault(_dotted(place.keys), _line(detail, place))
    return list(lines.values())


def reserved(document: Mapping[str, Any], owner: type = Task) -> str | None:
    """The complaint about a key that only Hocket itself sets, if the file has it."""
    if NOT_FROM_THE_FILE not in document:
        return None
    return _unknown(_place((NOT_FROM_THE_FILE,), owner))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a file something is wrong."""

    keys: tuple[str | int, ...]  # as the file has them
    table: Any  # the dataclass of the table that holds the last key
    hint: Any  # the type of what should be there

    @property
    def kinds(self) -> list[str]:
        """The kinds among which a table chooses."""
        return sorted(_kind_of(option) for option in _tables(self.hint))


def _place(location: Sequence[str | int], owner: Any) -> _Place:
    """Follow the types down: pydantic's path also names the kind, and the types it tried."""
    keys: list[str | int] = []
    table, hint = owner, owner
    for part in location:
        tables = list(_tables(hint))
        if len(tables) > 1:
            hint = next((option for option in tables if _kind_of(option) == part), hint)
        elif tables or (inner := _inner(hint, part)) is not None:
            keys.append(part)
            if tables:
                table = tables[0]
                hint = _known(table).get(str(part))
            else:
                hint = inner
    return _Place(tuple(keys), table, hint)


def _line(detail: ErrorDetails, place: _Place) -> str:
    key, context = _dotted(place.keys), detail.get("ctx", {})
    match detail["type"]:
        case "unexpected_keyword_argument":
            text = _unknown(place)
        case "missing":
            text = f"{key} is missing; add it"
        case "union_tag_not_found":
            text = f"{key}.kind is missing; set it to one of {', '.join(place.kinds)}"
        case "union_tag_invalid":
            close = _close(context["tag"], place.kinds)
            kinds = ", ".join(place.kinds)
            text = f"{key}.kind is {context['tag']!r}; choose one of {kinds}{close}"
        case "dict_type" | "dataclass_type":
            text = f"{key} is {_shown(detail['input'])}; write it as a table: [{key}]"
        case "value_error":
            text = f"{key}: {context['error']}"
        case _:
            wanted = re.sub("^(Input|String) ", "it ", detail["msg"])
            text = f"{key} is {_shown(detail['input'])}; {wanted}"
    return text


def _unknown(place: _Place) -> str:
    if place.table is Task and place.keys == ("dropout",):
        return FORMERLY_DROPOUT
    known = sorted(key for key in _known(place.table) if key != NOT_FROM_THE_FILE)
    close = _close(str(place.keys[-1]), known)
    return f"unknown key {_dotted(place.keys)}{close}; known here: {', '.join(known)}"


def _dotted(keys: Sequence[str | int]) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


@cache
def _known(table: Any) -> dict[str, Any]:
    """The keys of a table, by their names in the file, and the types of their values."""
    hints = get_type_hints(table, include_extras=True)
    return {_name(field.name, hints[field.name]): hints[field.name] for field in fields(table)}


def _name(field: str, hint: Any) -> str:
    metadata = getattr(hint, "__metadata__", ())
    return next((m.alias for m in metadata if isinstance(m, FieldInfo) and m.alias), field)


def _tables(hint: Any) -> Iterator[Any]:
    """The dataclasses that a value itself may be, not those within it."""
    if is_dataclass(hint):
        yield hint
    elif get_origin(hint) in CHOICES:
        for option in get_args(hint):
            yield from _tables(option)


def _inner(hint: Any, part: str | int) -> Any:
    """The type of what an array or a table of any keys holds; None if `part` is no key of it."""
    arguments, origin = get_args(hint), get_origin(hint)
    if origin in CHOICES:
        found = (_inner(option, part) for option in arguments)
        return next((inner for inner in found if inner is not None), None)
    if origin is tuple and isinstance(part, int):
        return arguments[0] if arguments[-1] is Ellipsis else arguments[part]
    if origin is dict and isinstance(part, str):
        return arguments[1]
    return None


def _kind_of(option: Any) -> str:
    return next((str(field.default) for field in fields(option) if field.name == "kind"), "")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."


def _close(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
