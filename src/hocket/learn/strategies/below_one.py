"""The check of a decay rate: at 1 nothing would ever decay."""

from __future__ import annotations

from hocket.core.ranges import not_negative
from hocket.errors import TaskError


def below_one(owner: str, field: str, value: float) -> None:
    """Raise TaskError unless `value` lies in [0, 1)."""
    not_negative(owner, field, value)
    if value >= 1:
        raise TaskError(f"{owner}.{field} is {value}; it must be below 1. Correct the task file.")
