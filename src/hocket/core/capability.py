"""What a device can do now, and how long a training step will take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CostLine:
    """Seconds of one optimiser step at one width: `fixed_s + per_example_s * batch_size`."""

    keep: float  # share of channels kept, in (0, 1]
    fixed_s: float
    per_example_s: float

    def step_s(self, batch_size: int) -> float:
        """Seconds that one step on `batch_size` examples takes."""
        return self.fixed_s + self.per_example_s * batch_size


def fit_cost_line(keep: float, timings: Sequence[tuple[int, float]]) -> CostLine:
    """Least squares through (batch size, seconds), with neither term below zero.

    One batch size alone gives a line through the origin. Raises ValueError without timings.
    """
    if not timings:
        raise ValueError("a cost line needs at least one timing")
    count = len(timings)
    mean_batch = sum(batch for batch, _ in timings) / count
    mean_s = sum(seconds for _, seconds in timings) / count
    spread = sum((batch - mean_batch) ** 2 for batch, _ in timings)
    if spread == 0.0:
        return CostLine(keep, 0.0, mean_s / mean_batch)
    slope = sum((batch - mean_batch) * (s - mean_s) for batch, s in timings) / spread
    fixed = mean_s - slope * mean_batch
    if slope < 0.0:
        return CostLine(keep, mean_s, 0.0)
    if fixed < 0.0:
        squares = sum(batch * batch for batch, _ in timings)
        return CostLine(keep, 0.0, sum(batch * s for batch, s in timings) / squares)
    return CostLine(keep, fixed, slope)


@dataclass(frozen=True, slots=True)
class Capability:
    """What a device can do now, as it measured it itself."""

    costs: tuple[CostLine, ...] = ()
    processor_share: float = 1.0  # share of the processor it can use now, in [0, 1]
    memory_bytes: int = 0  # 0 if unknown
    energy_share: float = 1.0  # battery charge in [0, 1]; 1 on mains
    available: bool = True  # willing to train now
    num_examples: int = 0

    def cost_at(self, keep: float) -> CostLine | None:
        """The line measured at the smallest width that covers `keep`, else the widest one."""
        wide_enough = [line for line in self.costs if line.keep >= keep]
        if wide_enough:
            return min(wide_enough, key=lambda line: line.keep)
        return max(self.costs, key=lambda line: line.keep, default=None)

    def training_s(self, num_steps: int, batch_size: int, keep: float = 1.0) -> float | None:
        """Seconds that `num_steps` steps take; None if nothing was measured."""
        line = self.cost_at(keep)
        return None if line is None else num_steps * line.step_s(batch_size)
