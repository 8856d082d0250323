"""The figure of a search: the front that it found, and uniform vectors beside it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import sqrt
from statistics import fmean, median, stdev

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from hocket.cli.dropout.findings import Candidate, Findings
from hocket.cli.report.drawing import COLOURS, legend, svg

FAR = 20.0  # times the middle score: what lies so far out would flatten all else
AXES = {"loss": "fall of the held-out loss", "accuracy": "gain of held-out accuracy"}


def front_figure(findings: Findings) -> str:
    """As SVG text."""
    return svg(partial(draw_front, findings))


def draw_front(findings: Findings, axes: Axes) -> None:
    """Score over cost, by the trials that chose nothing, with standard errors over the seeds."""
    uniform = sorted(findings.uniform.values(), key=lambda one: one.cost)
    _draw(axes, findings, uniform, COLOURS[1], "s", "uniform vectors")
    _draw(axes, findings, findings.front, COLOURS[0], "o", "the table")
    axes.set(xlabel="training cost beside the whole model's", xlim=(0, 1.03))
    axes.set_ylabel(AXES[findings.settings.score])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    scores = [abs(fmean(one.proof(findings.settings.score))) for one in (*uniform, *findings.front)]
    if max(scores) > FAR * (middle := median(scores)) > 0.0:
        axes.set_yscale("symlog", linthresh=middle)
        axes.set_ylabel(f"{axes.get_ylabel()}\n(logarithmic beyond {middle:.2g})")
    legend(axes)


def _draw(
    axes: Axes, findings: Findings, points: Iterable[Candidate], ink: str, marker: str, label: str
) -> None:
    proofs = [(one.cost, one.proof(findings.settings.score)) for one in points]
    axes.errorbar(
        [cost for cost, _ in proofs],
        [fmean(proof) for _, proof in proofs],
        yerr=[stdev(proof) / sqrt(len(proof)) if len(proof) > 1 else 0.0 for _, proof in proofs],
        color=ink,
        marker=marker,
        markersize=4,
        linewidth=1.2,
        elinewidth=0.8,
        label=label,
    )
