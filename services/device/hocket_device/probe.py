"""What a training step costs this device: timed at several widths and batch sizes, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from hocket.core.capability import CostLine, fit_cost_line

WIDTHS = (1.0, 0.5, 0.25)
MOST_WIDTHS = 16
REPETITIONS = 5
BUDGET_S = 0.8  # of all timings together; a step that runs when it is over is finished


def widths_for(choices: Sequence[float]) -> tuple[float, ...]:
    """Where to measure for a rule that chooses among these widths, the full one first.

    Of very many some are left out; `CostLine`s of larger ones stand in.
    """
    every = -(-len(choices) // (MOST_WIDTHS - 1)) or 1
    return tuple(sorted({1.0, *choices[::every]}, reverse=True))


@dataclass(frozen=True, slots=True)
class Probe:
    """How long to measure. The full width comes first and is measured whatever it costs."""

    widths: Sequence[float] = WIDTHS
    certain: int = 1  # widths, from the first, that are measured whatever they cost
    repetitions: int = REPETITIONS
    budget_s: float = BUDGET_S

    def measure(
        self,
        step: Callable[[float, int], None],
        batch_sizes: Sequence[int],
        now: Callable[[], float],
        granted_s: Callable[[], float] = lambda: 0.0,
    ) -> tuple[CostLine, ...]:
        """Time `step(keep, batch_size)` and fit a line for each width.

        `step` does what training does for one mini-batch, rests included. The median of the
        repetitions counts, so that one hiccup does not. Widths that the budget did not reach have
        no line.

        `granted_s` tells the seconds that the work so far takes in the long run. A step counts
        with no less: a quota of the system stops a process for part of every tenth of a second,
        and short steps fall in between.
        """
        ends_at = now() + self.budget_s
        timings: dict[tuple[float, int], list[float]] = {}
        for repetition in range(self.repetitions):
            for keep in self.widths:
                for batch_size in batch_sizes:
                    needed = repetition == 0 and keep in self.widths[: self.certain]
                    if now() >= ends_at and not needed:
                        return _lines(timings)
                    began, granted = now(), granted_s()
                    step(keep, batch_size)
                    seconds = max(now() - began, granted_s() - granted)
                    timings.setdefault((keep, batch_size), []).append(seconds)
        return _lines(timings)


def _lines(timings: dict[tuple[float, int], list[float]]) -> tuple[CostLine, ...]:
    by_width: dict[float, list[tuple[int, float]]] = {}
    for (keep, batch_size), seconds in timings.items():
        by_width.setdefault(keep, []).append((batch_size, median(seconds)))
    return tuple(fit_cost_line(keep, points) for keep, points in by_width.items())


def probe_batch_sizes(batch_size: int, num_examples: int) -> tuple[int, ...]:
    """A quarter of the task's batch, and the whole of it, as far as there are examples."""
    whole = max(1, min(batch_size, num_examples))
    return tuple(sorted({max(1, whole // 4), whole}))
