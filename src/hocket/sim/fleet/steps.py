"""Moments at which something planned goes on to its next step, once or over and over."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Steps:
    """Step i holds from `starts[i]` to the next step's start, seen `offset_s` late in the plan.

    Args:
        starts: seconds in the plan, ascending, the first one 0.
        period_s: seconds after which the plan starts over, beyond the last start; 0: never.
        offset_s: where in the plan virtual time begins, in [0, period_s).
    """

    starts: Sequence[float]
    period_s: float = 0.0
    offset_s: float = 0.0

    def at(self, at_s: float) -> int:
        """The step that holds at a moment of virtual time, at least 0."""
        return self._locate(at_s)[1]

    def next_start(self, after_s: float) -> tuple[float, int] | None:
        """When the step that holds at `after_s` ends, and which follows; None: never."""
        cycle, step = self._locate(after_s)
        if step + 1 < len(self.starts):
            return self._start(cycle, step + 1), step + 1
        return (self._start(cycle + 1, 0), 0) if self.period_s else None

    def next_change(self, after_s: float, same: Callable[[int, int], bool]) -> float | None:
        """When first after `after_s` a step holds that is not the same as now; None: never."""
        holds, moment = self.at(after_s), after_s
        for _ in self.starts:
            following = self.next_start(moment)
            if following is None:
                return None
            moment, step = following
            if not same(holds, step):
                return moment
        return None

    def _start(self, cycle: int, step: int) -> float:
        """In virtual time. All answers rest on this one sum, so rounding never splits them."""
        return cycle * self.period_s + float(self.starts[step]) - self.offset_s

    def _locate(self, at_s: float) -> tuple[int, int]:
        cycle = 0
        if self.period_s:
            cycle = int((at_s + self.offset_s) // self.period_s)
            while self._start(cycle, 0) > at_s:
                cycle -= 1
            while self._start(cycle + 1, 0) <= at_s:
                cycle += 1
        steps = range(len(self.starts))
        return cycle, bisect_right(steps, at_s, key=lambda step: self._start(cycle, step)) - 1
