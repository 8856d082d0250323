"""The figures of a simulation's report, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hocket.cli.output import in_time
from hocket.cli.report.drawing import COLOURS, PALE, colour, legend, svg
from hocket.sim.result import DeviceCounts, Result
from hocket.sim.summary import targets_of
from hocket.sim.tally import Tally, Timeline

MIB = 1024 * 1024
MOST_BARS = 40
MOST_CLASSES = len(COLOURS)
MOST_DEVICES = 24  # that get a bar each
UNITS = ((2 * 86400.0, 86400.0, "days"), (2 * 3600.0, 3600.0, "hours"), (300.0, 60.0, "minutes"))
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Virtual time in the unit that suits the run's length."""

    unit_s: float
    name: str

    @classmethod
    def of(cls, virtual_s: float) -> TimeAxis:
        """The largest unit of which the run has a few."""
        for least_s, unit_s, name in UNITS:
            if virtual_s >= least_s:
                return cls(unit_s, name)
        return cls(1.0, "seconds")


def render(result: Result, tally: Tally) -> dict[str, tuple[str, str]]:
    """Every figure: the name of its file to title and SVG."""
    many = len(result.devices) > MOST_DEVICES
    return {
        "accuracy": ("Accuracy over virtual time", svg(partial(accuracy, result))),
        "staleness": ("Staleness of the updates", svg(partial(staleness, result, tally))),
        "traffic": ("Traffic over virtual time", svg(partial(traffic, result, tally))),
        "utilisation": (
            f"Time spent training, by {'class of device' if many else 'device'}",
            svg(partial(utilisation, result.devices)),
        ),
    }


def accuracy(result: Result, axes: Axes) -> None:
    """Held-out accuracy of the newest model; each target, and where it was reached first."""
    time = TimeAxis.of(result.virtual_s)
    if not result.curve:
        _say(axes, "the model was not evaluated")
        return
    at = [point.at_s / time.unit_s for point in result.curve]
    values = [point.accuracy for point in result.curve]
    few = len(at) <= MOST_BARS
    axes.plot(at, values, color=COLOURS[0], marker="o" if few else "", markersize=3)
    axes.set(xlabel=f"{time.name} of virtual time", ylabel="test accuracy")
    axes.set(ylim=(0, 1.02), xlim=(0, max(at[-1], result.virtual_s / time.unit_s) or 1.0))
    for number, target in enumerate(targets_of(result.scenario), start=1):
        _mark_target(result, time, target, colour(number), axes)
    axes.annotate(
        f"{values[-1]:.3f}", (at[-1], values[-1]), (-4, 5), textcoords="offset points", ha="right"
    )
    legend(axes)


def staleness(result: Result, tally: Tally, axes: Axes) -> None:
    """How many versions had come since an accepted update's base; classes on top of each other."""
    if not any(tally.taus.values()):
        _say(axes, "no update was accepted")
        return
    most = max(max(counts) for counts in tally.taus.values() if counts)
    width = most // MOST_BARS + 1
    left = np.arange(most // width + 1) * width
    below = np.zeros(len(left))
    sizes = {name: tally.taus[name].total() for name in _classes(result.devices)}
    for number, group in enumerate(_groups(sizes)):
        heights = np.zeros(len(left))
        for name in group.members:
            for tau, count in tally.taus[name].items():
                heights[tau // width] += count
        ink = PALE if group.label == OTHERS else colour(number)
        align: Literal["edge", "center"] = "edge" if width > 1 else "center"
        axes.bar(left, heights, 0.92 * width, below, align=align, color=ink, label=group.label)
        below += heights
    axes.set(xlabel="versions behind (tau)", ylabel="accepted updates")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)


def traffic(result: Result, tally: Tally, axes: Axes) -> None:
    """What arrived at the server and at the devices, as a rate."""
    time = TimeAxis.of(result.virtual_s)
    if not (tally.up.amounts or tally.down.amounts):
        _say(axes, "nothing travelled")
        return
    down, up = _rates(tally.down, result.virtual_s), _rates(tally.up, result.virtual_s)
    unit, scale = _rate_unit(max(down + up))
    lines = ((tally.down, down, "to devices", 1), (tally.up, up, "to the server", 0))
    for line, bytes_per_s, label, ink in lines:
        rates = [rate / scale for rate in bytes_per_s]
        edges = [at * line.width_s / time.unit_s for at in range(len(rates) + 1)]
        axes.stairs(rates, edges, color=COLOURS[ink], fill=True, alpha=0.18)
        axes.stairs(rates, edges, color=COLOURS[ink], linewidth=1.1, label=label)
    axes.set(xlabel=f"{time.name} of virtual time", ylabel=f"{unit}/s")
    axes.set(xlim=(0, result.virtual_s / time.unit_s or 1.0))
    axes.set_ylim(bottom=0)
    legend(axes)


def utilisation(devices: Sequence[DeviceCounts], axes: Axes) -> None:
    """The share of its time there in which a device trained: of few each, of many by class."""
    names = _classes(devices)
    if len(devices) > MOST_DEVICES:
        _utilisation_by_class(devices, names, axes)
    else:
        labels = [f"{device.device_id} ({device.device_class})" for device in devices]
        inks = [colour(names.index(device.device_class)) for device in devices]
        axes.barh(range(len(devices)), [_busy(device) for device in devices], color=inks)
        size = 9 if len(devices) <= MOST_DEVICES // 2 else 6
        axes.set_yticks(range(len(devices)), labels, fontsize=size)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="share of the time there", xlim=(0, None))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _utilisation_by_class(
    devices: Sequence[DeviceCounts], names: Sequence[str], axes: Axes
) -> None:
    """Means, with the middle four fifths of the class's devices; the largest classes only."""
    members: dict[str, list[float]] = {name: [] for name in names}
    for device in devices:
        members[device.device_class].append(_busy(device))
    shown = sorted(sorted(names, key=lambda name: -len(members[name]))[:MOST_BARS])
    means = [float(np.mean(members[name])) for name in shown]
    ends = [np.quantile(members[name], (0.1, 0.9)) for name in shown]
    rows = range(len(shown))
    inks = [colour(row) for row in rows] if len(names) <= MOST_CLASSES else COLOURS[0]
    axes.barh(rows, means, color=inks, alpha=0.85)
    axes.hlines(rows, [low for low, _ in ends], [high for _, high in ends], color="#0f172a")
    size = 9 if len(shown) <= MOST_DEVICES // 2 else 5
    labels = [f"{name} ({len(members[name]):,})" for name in shown]
    axes.set_yticks(rows, labels, fontsize=size)
    axes.plot([], [], color="#0f172a", label="10 % to 90 %\nof its devices")
    legend(axes)


def _classes(devices: Sequence[DeviceCounts]) -> list[str]:
    return sorted({device.device_class for device in devices})


def _busy(device: DeviceCounts) -> float:
    return device.busy_s / device.here_s if device.here_s else 0.0


@dataclass(frozen=True, slots=True)
class _Group:
    """Classes that share a colour: one alone, or the smallest together."""

    label: str
    members: Sequence[str]


def _groups(sizes: Mapping[str, int]) -> list[_Group]:
    """At most as many groups as there are colours."""
    largest = sorted(sizes, key=lambda name: -sizes[name])
    if len(largest) <= MOST_CLASSES:
        return [_Group(name, [name]) for name in sizes]
    first = sorted(largest[: MOST_CLASSES - 1])
    return [*(_Group(name, [name]) for name in first), _Group(OTHERS, largest[MOST_CLASSES - 1 :])]


def _mark_target(result: Result, time: TimeAxis, target: float, ink: str, axes: Axes) -> None:
    reached_s = result.reached_s(target)
    when = "never" if reached_s is None else f"after {in_time(reached_s)}"
    axes.axhline(target, color=ink, linestyle="--", linewidth=1, label=f"{target:g}: {when}")
    if reached_s is not None:
        axes.plot([reached_s / time.unit_s], [target], "o", color=ink, markersize=6)


def _rates(line: Timeline, end_s: float) -> list[float]:
    """Amounts a second; without the last part if the run ended before it was half over."""
    rates = [amount / line.width_s for amount in line.amounts]
    last_s = end_s - line.width_s * (len(rates) - 1)
    if len(rates) > 1 and last_s < line.width_s / 2.0:
        return rates[:-1]
    if rates:
        rates[-1] *= line.width_s / min(max(last_s, 1.0), line.width_s)
    return rates


def _rate_unit(most: float) -> tuple[str, float]:
    if most >= MIB:
        return "MiB", float(MIB)
    return ("KiB", 1024.0) if most >= 1024.0 else ("B", 1.0)


def _say(axes: Axes, text: str) -> None:
    """In place of a figure."""
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=11)
