"""`--set KEY=VALUE`: keys of a task file, set otherwise on the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

from hocket.errors import TaskError

KIND_OF_STRATEGY = "strategy.kind"


def parse_changes(settings: Iterable[str], strategy: str | None = None) -> dict[str, Any]:
    """Dotted keys and their values, for `hocket.task.load_task`.

    Args:
        settings: each KEY=VALUE, the value as in TOML; what is no TOML is taken as text, and
            nothing (None) stands for the key's default.
        strategy: short for strategy.kind.

    Raises TaskError.
    """
    changes: dict[str, Any] = {} if strategy is None else {KIND_OF_STRATEGY: strategy}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not (equals and key):
            raise TaskError(f"--set {setting} is no KEY=VALUE; write --set strategy.alpha=0.4, say")
        if key in changes:
            raise TaskError(f"{key} is set twice; leave one out")
        changes[key] = _value(text.strip())
    return changes


def _value(text: str) -> Any:
    if not text:
        return None
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text
