"""What a strategy's settings say of the fleet and the pace that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

from hocket.errors import TaskError
from hocket.learn.strategies import AnyStrategy
from hocket.sim.study.study import flat
from hocket.task.rules import RefreshSettings

KIND, DEVICES = "strategy.kind", "strategy.devices"

_REFRESHING = "fedasmu"
"""The kind whose devices merge the fresh model in mid-training: that is a part of its rule."""

_WAITED_FOR = ("cohort", "goal", "minimum")
"""Settings that count updates: no more than there are devices, or a small fleet never steps."""


def by_kind(kind: str, devices: int) -> dict[str, Any]:
    """The changes that make a task train by a strategy of this kind, otherwise as it stands.

    Nothing that the task says of [strategy] and [refresh] is left, so that every kind begins from
    its own defaults, counts of updates made no larger than the fleet; only FedASMU refreshes. A
    rule of rounds (it has a cohort) gets the pace of rounds. Raises TaskError for no such kind.
    """
    if kind not in _SETTINGS:
        raise TaskError(f"there is no strategy {kind!r}; choose {', '.join(sorted(_SETTINGS))}")
    own = {
        f"strategy.{name}": min(value, devices) if name in _WAITED_FOR else value
        for name, value in _SETTINGS[kind].items()
        if name != "devices"  # see `counting`
    }
    refresh = RefreshSettings(kind="learned" if kind == _REFRESHING else "none")
    cohort = own.get("strategy.cohort")
    paced = {} if cohort is None else {"pace.kind": "rounds", "pace.cohort": cohort}
    return own | flat({"refresh": asdict(refresh)}) | paced


def counting(changes: dict[str, Any], devices: int) -> dict[str, Any]:
    """The changes, and the size of the fleet where the strategy asks for it and is not told."""
    asks = "devices" in _SETTINGS.get(changes.get(KIND, ""), ())
    return changes | {DEVICES: devices} if asks and DEVICES not in changes else changes


def beside_defaults(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The dotted changes without the kind of strategy, and without what they set to its default.

    Defaults are those of the strategy's settings and of [refresh], but for its kind, which says
    most of a method; other keys are kept.
    """
    own = _SETTINGS.get(changes.get(KIND, ""), {})
    defaults = {f"strategy.{name}": value for name, value in own.items()}
    defaults |= flat({"refresh": asdict(RefreshSettings())})
    del defaults["refresh.kind"]
    return {
        key: value
        for key, value in changes.items()
        if key != KIND and not (key in defaults and defaults[key] == value)
    }


def _settings() -> dict[str, Mapping[str, Any]]:
    """Every strategy's settings and their defaults, by its kind."""
    known = [flat(asdict(option())) for option in _options()]
    return {str(settings["kind"]): settings for settings in known}


def _options() -> tuple[Any, ...]:
    return get_args(AnyStrategy)


_SETTINGS = _settings()
