"""What pydantic found wrong with a task file, in words for the person who wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hocket.task.task import Task

NOT_FROM_THE_FILE = "origin"
LONGEST_VALUE = 60


def complaints(error: ValidationError, document: Mapping[str, Any]) -> list[str]:
    """One line for each wrong key, in the order of the file: the key, what is wrong, what to do."""
    lines: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        keys = _keys(detail["loc"])
        lines.setdefault(_dotted(keys), _line(detail, keys, document))
    return list(lines.values())


def reserved(document: Mapping[str, Any]) -> str | None:
    """The complaint about a key that only Hocket itself sets, if the file has it."""
    if NOT_FROM_THE_FILE not in document:
        return None
    return _unknown((NOT_FROM_THE_FILE,), document)


def _line(detail: ErrorDetails, keys: tuple[str | int, ...], document: Mapping[str, Any]) -> str:
    key, context = _dotted(keys), detail.get("ctx", {})
    match detail["type"]:
        case "unexpected_keyword_argument":
            text = _unknown(keys, document)
        case "missing":
            text = f"{key} is missing; add it"
        case "union_tag_not_found":
            text = f"{key}.kind is missing; set it to one of {_kinds(keys)}"
        case "union_tag_invalid":
            close = _close(context["tag"], _by_kind(keys))
            text = f"{key}.kind is {context['tag']!r}; choose one of {_kinds(keys)}{close}"
        case "dict_type" | "dataclass_type":
            text = f"{key} is {_shown(detail['input'])}; write it as a table: [{key}]"
        case "value_error":
            text = f"{key}: {context['error']}"
        case _:
            wanted = detail["msg"].replace("Input", "it", 1)
            text = f"{key} is {_shown(detail['input'])}; {wanted}"
    return text


def _unknown(keys: tuple[str | int, ...], document: Mapping[str, Any]) -> str:
    owner = _owner(keys[:-1], document)
    known = sorted(field.name for field in fields(owner) if field.name != NOT_FROM_THE_FILE)
    close = _close(str(keys[-1]), known)
    return f"unknown key {_dotted(keys)}{close}; known here: {', '.join(known)}"


def _owner(keys: Sequence[str | int], document: Mapping[str, Any]) -> Any:
    """The dataclass that the table at `keys` is parsed into."""
    owner: Any = Task
    table: Any = document
    for key in keys:
        table = table[key]
        classes = list(_dataclasses(get_type_hints(owner)[str(key)]))
        owner = next((c for c in classes if _kind_of(c) == table.get("kind")), classes[0])
    return owner


def _keys(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Keys as the file has them: pydantic's path also names the kind, or the type it tried."""
    keys = list(location)
    if len(keys) > 1 and keys[1] in _by_kind(keys[:1]):
        del keys[1]
    while len(keys) > 1 and isinstance(keys[-2], int) and isinstance(keys[-1], str):
        del keys[-1]
    return tuple(keys)


def _dotted(keys: Sequence[str | int]) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


@cache
def _task_hints() -> dict[str, Any]:
    return get_type_hints(Task, include_extras=True)


def _by_kind(keys: Sequence[str | int]) -> list[str]:
    """The kinds among which a top-level table chooses; none if it is of one kind only."""
    hint = _task_hints().get(str(keys[0])) if keys else None
    if not hasattr(hint, "__metadata__"):
        return []
    return sorted(_kind_of(option) for option in _dataclasses(hint))


def _kinds(keys: Sequence[str | int]) -> str:
    return ", ".join(_by_kind(keys))


def _kind_of(option: Any) -> str:
    return next((str(field.default) for field in fields(option) if field.name == "kind"), "")


def _dataclasses(hint: Any) -> Iterator[Any]:
    if is_dataclass(hint):
        yield hint
    elif get_origin(hint) is not None or get_args(hint):
        for argument in get_args(hint):
            yield from _dataclasses(argument)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."


def _close(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
