"""What a strategy's settings say of the fleet and the pace that it needs."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from hocket.errors import TaskError
from hocket.learn.strategies import AnyStrategy

KIND, DEVICES = "strategy.kind", "strategy.devices"


def by_kind(kind: str) -> dict[str, Any]:
    """The changes that make a task train by a strategy of this kind, otherwise as it stands.

    A rule of rounds (it has a cohort) gets the pace of rounds. Raises TaskError for no such kind.
    """
    if kind not in _SETTINGS:
        raise TaskError(f"there is no strategy {kind!r}; choose {', '.join(sorted(_SETTINGS))}")
    paced = {"pace.kind": "rounds"} if "cohort" in _SETTINGS[kind] else {}
    return {KIND: kind} | paced


def counting(changes: dict[str, Any], devices: int) -> dict[str, Any]:
    """The changes, and the size of the fleet where the strategy asks for it and is not told."""
    asks = "devices" in _SETTINGS.get(changes.get(KIND, ""), ())
    return changes | {DEVICES: devices} if asks and DEVICES not in changes else changes


def _settings() -> dict[str, frozenset[str]]:
    """The names of every strategy's settings, by its kind."""
    names = {option: {field.name: field for field in fields(option)} for option in _options()}
    return {str(known["kind"].default): frozenset(known) for known in names.values()}


def _options() -> tuple[Any, ...]:
    return get_args(AnyStrategy)


_SETTINGS = _settings()
