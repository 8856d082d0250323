"""The figures of a demo's report, as SVG text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hocket.cli.report.drawing import COLOURS, PALE, colour, legend, svg
from hocket.cli.report.run import RunData
from hocket.core.ids import DeviceId
from hocket.core.records import UpdateRecord
from hocket.core.update import Dropped

MIB = 1024 * 1024
Drawing = Callable[[RunData, Axes], None]


def render(run: RunData) -> dict[str, str]:
    """Every figure: title to SVG."""
    return {title: svg(partial(draw, run)) for title, draw in FIGURES.items()}


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
        axes.scatter(at, taus, s=14, alpha=0.8, color=colour(index), label=device_id)
    axes.set(xlabel="seconds", ylabel="versions behind (tau)")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)


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
    axes.barh(rows, dense, color=PALE, label="as raw float32")
    axes.barh(rows, wire, color=COLOURS[2], label="as pushed")
    axes.set_yticks(rows, [member.device_id for member in members])
    axes.invert_yaxis()
    axes.set(xlabel="MiB")
    legend(axes)


def _by_device(run: RunData) -> dict[DeviceId, list[UpdateRecord]]:
    found: dict[DeviceId, list[UpdateRecord]] = defaultdict(list)
    for member in run.status.devices:
        found[member.device_id] = []
    for record in run.updates:
        found[record.header.device_id].append(record)
    return found


FIGURES: Mapping[str, Drawing] = {
    "Accuracy over time": accuracy_over_time,
    "Staleness of each update": staleness,
    "Who contributed what": contributions,
    "Bytes pushed by each device": bytes_per_device,
}
