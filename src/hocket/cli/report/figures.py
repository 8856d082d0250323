"""The figures of a report, as SVG text."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Mapping

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hocket.cli.report.run import RunData
from hocket.core.ids import DeviceId
from hocket.core.records import UpdateRecord
from hocket.core.update import Dropped

WIDTH_IN, HEIGHT_IN = 7.2, 3.2
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
MIB = 1024 * 1024
Drawing = Callable[[RunData, Axes], None]


def render(run: RunData) -> dict[str, str]:
    """Every figure: title to SVG."""
    return {title: _svg(run, draw) for title, draw in FIGURES.items()}


def accuracy_over_time(run: RunData, axes: Axes) -> None:
    """Held-out accuracy of each evaluated version against seconds since the start."""
    points = [
        (record.created_unix_s - run.started_unix_s, record.evaluation.test_accuracy)
        for record in run.versions
        if record.evaluation is not None
    ]
    axes.plot([at for at, _ in points], [accuracy for _, accuracy in points], color=COLOURS[0])
    axes.set(xlabel="seconds", ylabel="test accuracy", ylim=(0, 1.02))
    if points:
        at, accuracy = points[-1]
        axes.annotate(
            f"{accuracy:.3f}", (at, accuracy), (-8, -14), textcoords="offset points", ha="right"
        )


def staleness(run: RunData, axes: Axes) -> None:
    """How many versions had come since an update's base, device by device."""
    for index, (device_id, records) in enumerate(_by_device(run).items()):
        at = [record.received_unix_s - run.started_unix_s for record in records]
        taus = [record.outcome.tau for record in records]
        axes.scatter(at, taus, s=14, alpha=0.8, color=_colour(index), label=device_id)
    axes.set(xlabel="seconds", ylabel="versions behind (tau)")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)


def contributions(run: RunData, axes: Axes) -> None:
    """Accepted updates, and the sum of their weights, for each device."""
    devices = _by_device(run)
    counts, weights = [], []
    for records in devices.values():
        used = [r.outcome for r in records if not isinstance(r.outcome, Dropped)]
        counts.append(len(used))
        weights.append(sum(outcome.weight for outcome in used))
    rows = list(range(len(devices)))
    axes.barh([row - 0.2 for row in rows], counts, height=0.38, color=COLOURS[0])
    axes.set_yticks(rows, list(devices))
    axes.invert_yaxis()
    axes.set_xlabel("updates accepted", color=COLOURS[0])
    beside = axes.twiny()
    beside.barh([row + 0.2 for row in rows], weights, height=0.38, color=COLOURS[1])
    beside.set_xlabel("sum of their weights", color=COLOURS[1])
    beside.spines[["right"]].set_visible(False)


def bytes_per_device(run: RunData, axes: Axes) -> None:
    """What travelled, beside what the same updates weigh as raw float32."""
    members = run.status.devices
    rows = list(range(len(members)))
    dense = [member.dense_bytes / MIB for member in members]
    wire = [member.wire_bytes / MIB for member in members]
    axes.barh(rows, dense, color="#cbd5e1", label="as raw float32")
    axes.barh(rows, wire, color=COLOURS[2], label="as pushed")
    axes.set_yticks(rows, [member.device_id for member in members])
    axes.invert_yaxis()
    axes.set(xlabel="MiB")
    _legend(axes)


def _by_device(run: RunData) -> dict[DeviceId, list[UpdateRecord]]:
    found: dict[DeviceId, list[UpdateRecord]] = defaultdict(list)
    for member in run.status.devices:
        found[member.device_id] = []
    for record in run.updates:
        found[record.header.device_id].append(record)
    return found


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _svg(run: RunData, draw: Drawing) -> str:
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hocket", "font.size": 9}):
        sheet = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        axes = sheet.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        draw(run, axes)
        text = io.StringIO()
        sheet.savefig(text, format="svg", metadata={"Date": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


FIGURES: Mapping[str, Drawing] = {
    "Accuracy over time": accuracy_over_time,
    "Staleness of each update": staleness,
    "Who contributed what": contributions,
    "Bytes pushed by each device": bytes_per_device,
}
