"""What changes over time by plan: a repeating list of (seconds, value)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Schedule(Generic[T]):
    """Holds each value for its seconds, then starts over. Without steps it is always `default`."""

    default: T
    steps: Sequence[tuple[float, T]] = ()

    def at(self, elapsed_s: float) -> T:
        """The value `elapsed_s` seconds after the start."""
        if not self.steps:
            return self.default
        left_s = elapsed_s % self.period_s
        for seconds, value in self.steps:
            if left_s < seconds:
                return value
            left_s -= seconds
        return self.steps[-1][1]  # rounding at the very end of a period

    def next_change_s(self, elapsed_s: float) -> float | None:
        """Seconds from `elapsed_s` to the end of the step that holds then; None: never."""
        if len(self.steps) < 2:
            return None
        left_s = elapsed_s % self.period_s
        for seconds, _ in self.steps:
            if left_s < seconds:
                return seconds - left_s
            left_s -= seconds
        return 0.0

    @property
    def period_s(self) -> float:
        """Seconds after which it repeats; 0 without steps."""
        return sum(seconds for seconds, _ in self.steps)
