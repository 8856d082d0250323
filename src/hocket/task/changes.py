"""Changes to a task by dotted keys, as a command line or a study names them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

from hocket.errors import TaskError
from hocket.task.task import Task

KIND = ".kind"

Changes = Mapping[str, Any]
"""Dotted keys of a task file, "strategy.alpha" say, and what each is set to."""

NO_CHANGES: Changes = MappingProxyType({})


def changed(document: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """A task file's document with some keys set to other values; the given one stays as it is.

    A table whose kind decides which other keys it has ([strategy], [strategy.server], [pace], ...)
    begins anew when that kind becomes another. It may be written, or set, as its kind alone; one at
    the top has the default kind where the file has none. Kinds are set before all other keys.
    A key that is set to None is taken out, so that its default counts.
    Raises TaskError for a key within something that is no table.
    """
    after = spelled_out(document)
    wanted = _by_kinds(changes)
    for key in sorted(wanted, key=_turn):
        table, name = _table_of(after, key)
        value = wanted[key]
        if _begins_a_table(key) and table.get(name) != value:
            table.clear()
        if value is None:
            table.pop(name, None)
        else:
            table[name] = value
    return after


def spelled_out(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with `strategy = "fedavg"`, say, as the table that it stands for."""
    return {key: _spelled_out(key, value) for key, value in document.items()}


def _spelled_out(key: str, value: Any) -> Any:
    chosen = _chosen_by_kind()
    if isinstance(value, str) and key in chosen:
        return {"kind": value}
    if isinstance(value, Mapping) and any(name.startswith(f"{key}.") for name in chosen):
        return {name: _spelled_out(f"{key}.{name}", inner) for name, inner in value.items()}
    return value


def layered(*layers: Changes) -> dict[str, Any]:
    """Changes one upon another: later ones win.

    A layer that sets the kind of a table which that kind decides (see `changed`) undoes what
    earlier layers set of that table, unless they had set the same kind.
    """
    sum_of_all: dict[str, Any] = {}
    for layer in map(_by_kinds, layers):
        for key in filter(_begins_a_table, layer):
            if sum_of_all.get(key) != layer[key]:
                table = key.removesuffix(KIND)
                sum_of_all = {
                    k: v for k, v in sum_of_all.items() if not f"{k}.".startswith(f"{table}.")
                }
        sum_of_all |= layer
    return sum_of_all


def _by_kinds(changes: Changes) -> dict[str, Any]:
    """With each table that is set to its kind alone set by its kind."""
    return {
        key + KIND if isinstance(value, str) and key in _chosen_by_kind() else key: value
        for key, value in changes.items()
    }


def _turn(key: str) -> float:
    """Kinds before other keys, and of kinds those of outer tables first."""
    return key.count(".") if key.endswith(KIND) else math.inf


def _begins_a_table(key: str) -> bool:
    return key.endswith(KIND) and key.removesuffix(KIND) in _chosen_by_kind()


def _table_of(document: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """A copy of the table that holds a dotted key, put in its place, and the key's last part."""
    *path, name = key.split(".")
    table = document
    for depth, part in enumerate(path, start=1):
        usual = _usual_kinds().get(part, {}) if depth == 1 else {}
        inner = table.get(part, usual)
        if not isinstance(inner, Mapping):
            within = ".".join(path[:depth])
            raise TaskError(f"{key} cannot be set: {within} is {inner!r}, which is no table")
        own = dict(inner)
        table[part] = own
        table = own
    if not name or not all(path):
        raise TaskError(f"{key!r} is no key; write it with dots, strategy.alpha say")
    return table, name


@cache
def _usual_kinds() -> Mapping[str, Mapping[str, Any]]:
    """Such tables as they are of the default kind; [data] has none."""
    usual = {one.name: one.default_factory for one in fields(Task)}
    return {
        name: {"kind": made().kind}
        for name in _chosen_by_kind() & usual.keys()
        if (made := usual[name]) is not MISSING
    }


@cache
def _chosen_by_kind() -> frozenset[str]:
    """Tables, by their dotted names, whose kind chooses among several sets of keys."""
    return frozenset(_choices(Task))


def _choices(table: type, within: str = "") -> Iterator[str]:
    hints = get_type_hints(table)
    for field in fields(table):
        hint = hints[field.name]
        types = (hint, *get_args(hint))
        options = [one for one in types if isinstance(one, type) and is_dataclass(one)]
        if len(options) > 1:
            yield within + field.name
        for option in options:
            yield from _choices(option, f"{within}{field.name}.")
