"""What work costs in virtual seconds, known before it is done."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hocket.core.capability import CostLine
from hocket.core.chance import Stream
from hocket.core.schedule import Schedule
from hocket.sim.lognormal import lognormal


def batch_sizes(num_examples: int, batch_size: int) -> list[int]:
    """Sizes of one epoch's mini-batches: those of `LocalTrainer.epoch_batches`, without drawing.

    A last mini-batch of a single example joins the one before it.
    """
    whole, rest = divmod(num_examples, batch_size)
    sizes = [batch_size] * whole + [rest] * (rest > 0)
    if batch_size > 1 and len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [sizes[-2] + 1]
    return sizes


def work_s(line: CostLine, batches: Sequence[tuple[int, float]], factor: float = 1.0) -> float:
    """Seconds that optimiser steps take on a processor that does nothing else.

    Args:
        line: seconds of one step at the device's width.
        batches: for each mini-batch its size, and the cost of its dropout row relative to the
            whole model (DISTREAL's M, in (0, 1]).
        factor: above 1 the device is slower than its class, or its epoch than others.
    """
    return factor * math.fsum(line.step_s(size) * cost for size, cost in batches)


def jitter(sigma: float, seed: int, device_id: str, training: int, epoch: int) -> float:
    """The factor by which one epoch takes longer: lognormal, the same whenever it is asked for."""
    if sigma == 0.0:
        return 1.0
    return lognormal(Stream(seed, "jitter", device_id, training, epoch), sigma)


def finish_at(started_s: float, busy_s: float, shares: Schedule[float]) -> float:
    """When work is done that began at `started_s`: it accrues at the share that holds.

    Args:
        started_s: seconds on the schedule's scale, at least 0.
        busy_s: seconds the work takes with the whole processor.
        shares: shares of the processor over time, each in (0, 1].
    """
    if len(shares.steps) < 2:
        return started_s + busy_s / shares.at(started_s)
    position, left_s = _position(started_s, shares)
    a_period_s = math.fsum(seconds * share for seconds, share in shares.steps)
    periods = busy_s // a_period_s
    elapsed_s, todo_s = periods * shares.period_s, busy_s - periods * a_period_s
    while (share := shares.steps[position][1]) * left_s < todo_s:
        elapsed_s += left_s
        todo_s -= share * left_s
        position = (position + 1) % len(shares.steps)
        left_s = shares.steps[position][0]
    return started_s + elapsed_s + todo_s / share


def _position(at_s: float, shares: Schedule[float]) -> tuple[int, float]:
    """The step that holds at `at_s`, and how long it will go on."""
    left_s = at_s % shares.period_s
    for position, (seconds, _) in enumerate(shares.steps):
        if left_s < seconds:
            return position, seconds - left_s
        left_s -= seconds
    return 0, shares.steps[0][0]  # rounding at the very end of a period
