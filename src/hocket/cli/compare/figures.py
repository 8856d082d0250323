"""The figure of a comparison: mean accuracy over virtual time, with a band for its spread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from hocket.cli.report.drawing import COLOURS, PALE, colour, legend, svg
from hocket.sim.study.jobs import Row
from hocket.sim.study.results import Standing, Table

STYLES = ("-", "--", ":", "-.")


def accuracy_figure(table: Table) -> str:
    """As SVG text."""
    return svg(partial(draw_curves, table))


def draw_curves(table: Table, axes: Axes) -> None:
    """Each method's mean, held from one evaluation to the next, and its band."""
    for target in table.targets:
        axes.axhline(target, color=PALE, linewidth=1)
    for index, standing in enumerate(_compared_first(table)):
        at_s, mean, sd = curve_of(standing.runs)
        first = standing.method == table.compared
        paint = colour(index)
        axes.plot(
            at_s,
            mean,
            drawstyle="steps-post",
            color=paint,
            linestyle=STYLES[index // len(COLOURS) % len(STYLES)],
            linewidth=2.2 if first else 1.0,
            zorder=3 if first else 2,
            label=standing.method,
        )
        if len(standing.runs) > 1:
            axes.fill_between(
                at_s, mean - sd, mean + sd, step="post", color=paint, alpha=0.12, linewidth=0
            )
    axes.set(xlabel="virtual seconds", ylabel="test accuracy")
    axes.set_ylim(0, min(1.02, axes.get_ylim()[1]))  # no higher than the curves need
    legend(axes)


def curve_of(runs: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times of evaluations, mean and standard deviation over the runs.

    A run without an evaluation at a time counts as its last one before.
    """
    at_s = np.unique([point.at_s for row in runs for point in row.curve])
    steps = np.stack([_held(row, at_s) for row in runs])
    spread = steps.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(len(at_s))
    return at_s, steps.mean(axis=0), spread


def _held(row: Row, at_s: np.ndarray) -> np.ndarray:
    times = np.array([point.at_s for point in row.curve])
    values = np.array([point.accuracy for point in row.curve])
    last = np.searchsorted(times, at_s, side="right") - 1
    return np.asarray(values[np.maximum(last, 0)])


def _compared_first(table: Table) -> list[Standing]:
    return sorted(table.standings, key=lambda standing: standing.method != table.compared)
