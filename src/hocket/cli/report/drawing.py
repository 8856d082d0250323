"""How every figure looks: one pair of axes, drawn on and turned into SVG text."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH_IN, HEIGHT_IN = 7.2, 3.2
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
PALE = "#cbd5e1"
Drawing = Callable[[Axes], None]


def svg(draw: Drawing) -> str:
    """The figure that `draw` draws; the same drawing gives the same text."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hocket", "font.size": 9}):
        sheet = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        axes = sheet.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        draw(axes)
        text = io.StringIO()
        sheet.savefig(text, format="svg", metadata={"Date": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def colour(index: int) -> str:
    """The colour of the n-th of several things; they repeat."""
    return COLOURS[index % len(COLOURS)]


def legend(axes: Axes) -> None:
    """A legend to the right of the axes, if anything on them has a label."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
