"""When a task has reached its end."""

from __future__ import annotations

from dataclasses import dataclass

from hocket.core.ids import Version
from hocket.core.records import Evaluation
from hocket.errors import TaskError


@dataclass(frozen=True, slots=True)
class Stop:
    """Whatever comes first ends the task; with nothing set it goes on until it is stopped."""

    versions: int | None = None
    accuracy: float | None = None  # share of held-out examples, in (0, 1]
    wall_s: float | None = None  # since the first trigger

    def __post_init__(self) -> None:
        for field in ("versions", "accuracy", "wall_s"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise TaskError(f"stop.{field} is {value}; it must be above 0")
        if self.accuracy is not None and self.accuracy > 1:
            raise TaskError(f"stop.accuracy is {self.accuracy}; it is a share, at most 1")

    def ends_at(self, began: float | None) -> float | None:
        """When time alone ends a task whose first trigger was sent at `began`, if it ever does."""
        return None if self.wall_s is None or began is None else began + self.wall_s

    def reason(
        self, version: Version, evaluation: Evaluation | None, now: float, began: float | None
    ) -> str | None:
        """Why the task is over at `now`, or None while it goes on; `began` as for `ends_at`."""
        if self.accuracy is not None and evaluation and evaluation.test_accuracy >= self.accuracy:
            return f"test accuracy {evaluation.test_accuracy:.4f} reached {self.accuracy:.4f}"
        if self.versions is not None and version >= self.versions:
            return f"version {version} of {self.versions} reached"
        ends_at = self.ends_at(began)  # not now - began >= wall_s: rounding puts that off
        if ends_at is not None and now >= ends_at:
            return f"{self.wall_s:g} s are over"
        return None
