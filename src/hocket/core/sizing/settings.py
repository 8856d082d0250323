"""A rule's settings as numbers by name, as devices are told them.

A number is itself, a list its members, what is left out is empty, and a choice among words is its
place among them, from 0: words are added at the end, never moved.
"""

from __future__ import annotations

from dataclasses import Field, fields
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from hocket.core.terms import SizingTerms

T = TypeVar("T")


def terms_of_settings(rule: Any) -> SizingTerms:
    """The terms that name a rule and its settings; those that do not travel are left out."""
    hints = get_type_hints(type(rule))
    values = {f.name: _packed(getattr(rule, f.name), hints[f.name]) for f in _travelling(rule)}
    return SizingTerms(rule.kind, tuple(sorted(values.items())))


def rule_of_settings(rule: type[T], terms: SizingTerms) -> T:
    """The rule of this class that the terms mean; what they do not name has its default.

    Raises TaskError for values out of range, and KeyError, TypeError, ValueError, IndexError or
    OverflowError for settings that the class does not have, or that are of another type.
    """
    hints = get_type_hints(rule)
    known = {f.name for f in _travelling(rule)}
    settings: dict[str, Any] = {}
    for name, numbers in terms.values:
        if name not in known:
            raise KeyError(name)
        settings[name] = _unpacked(numbers, hints[name])
    return rule(**settings)


def _travelling(rule: Any) -> list[Field[Any]]:
    return [f for f in fields(rule) if f.name != "kind" and f.metadata.get("travels", True)]


def _packed(value: Any, hint: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    if isinstance(value, tuple):
        return tuple(map(float, value))
    return (float(get_args(hint).index(value) if isinstance(value, str) else value),)


def _unpacked(numbers: tuple[float, ...], hint: Any) -> Any:
    options = get_args(hint)
    if get_origin(hint) is tuple:
        return numbers
    if not numbers and NoneType in options:
        return None
    (number,) = numbers
    if get_origin(hint) is Literal:
        return options[_whole(number)]
    if hint is bool:
        return (False, True)[_whole(number)]
    return _whole(number) if hint is int else number


def _whole(number: float) -> int:
    if number < 0 or not float(number).is_integer():
        raise ValueError(f"{number} is no whole number")
    return int(number)
