"""Checks of hyperparameters: a value out of range is a TaskError that names its field."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hocket.errors import TaskError


def positive(owner: str, field: str, value: float) -> None:
    """Raise TaskError unless `value` is finite and above 0."""
    _require(math.isfinite(value) and value > 0, owner, field, value, "above 0")


def not_negative(owner: str, field: str, value: float) -> None:
    """Raise TaskError unless `value` is finite and at least 0."""
    _require(math.isfinite(value) and value >= 0, owner, field, value, "at least 0")


def at_least_one(owner: str, field: str, value: int) -> None:
    """Raise TaskError unless `value` is a whole number from 1 up."""
    _require(float(value).is_integer() and value >= 1, owner, field, value, "a whole number >= 1")


def whole(owner: str, field: str, value: int, most: float = math.inf) -> None:
    """Raise TaskError unless `value` is a whole number from 0 up, to `most` at most."""
    wanted = "a whole number >= 0" if most == math.inf else f"a whole number from 0 to {most:,}"
    _require(float(value).is_integer() and 0 <= value <= most, owner, field, value, wanted)


def share(owner: str, field: str, value: float) -> None:
    """Raise TaskError unless `value` lies in [0, 1]."""
    _require(0 <= value <= 1, owner, field, value, "between 0 and 1")


def percentile(owner: str, field: str, value: float) -> None:
    """Raise TaskError unless `value` lies in [0, 100]."""
    _require(0 <= value <= 100, owner, field, value, "between 0 and 100")


def one_of(owner: str, field: str, value: str, options: Sequence[str]) -> None:
    """Raise TaskError unless `value` is one of `options`."""
    if value not in options:
        known = ", ".join(map(repr, options))
        raise TaskError(f"{owner}.{field} is {value!r}; choose {known}. Correct the task file.")


def _require(ok: bool, owner: str, field: str, value: float, wanted: str) -> None:
    if not ok:
        raise TaskError(f"{owner}.{field} is {value}; it must be {wanted}. Correct the task file.")
