"""A simulation's report.html, and the figures in it as files of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hocket.cli.output import in_bytes, in_rate, in_time
from hocket.cli.report.page import page, table, write_text
from hocket.cli.report.sim_figures import render
from hocket.sim.fleet import FleetFile
from hocket.sim.fleet.classes import DeviceClass
from hocket.sim.fleet.file import Server
from hocket.sim.fleet.links import Uplink
from hocket.sim.result import Result
from hocket.sim.summary import targets_of
from hocket.sim.tally import Tally

BATCH = 32  # whose optimiser step shows how fast a class is
MOST_ROWS = 100


def write_report(result: Result, tally: Tally, summary: dict[str, Any], folder: Path) -> None:
    """Write report.html and figures/*.svg. Raises OSError."""
    figures = render(result, tally)
    (folder / "figures").mkdir()
    for name, (_, svg) in figures.items():
        write_text(folder / "figures" / f"{name}.svg", svg)
    write_text(folder / "report.html", _page(result, summary, dict(figures.values())))


def _page(result: Result, summary: dict[str, Any], figures: dict[str, str]) -> str:
    scenario, fleet = result.scenario, result.scenario.fleet
    about = (
        f"{scenario.task.strategy.kind} on the fleet {fleet.name} of {fleet.num_devices:,} devices "
        f"· {result.reason} · {in_time(result.virtual_s)} of virtual time in "
        f"{in_time(result.wall.total_s)}"
    )
    sections = dict(figures)
    if targets_of(scenario):
        sections["Time to target"] = table(
            ["test accuracy", "reached after"], list(targets(result))
        )
    sections["Classes of devices"] = _classes(fleet, summary["classes"])
    sections["Links"] = _links(fleet)
    return page(
        f"{scenario.task.name}, simulated",
        about,
        summary["command"],
        scenario.seed,
        list(tiles(result, summary)),
        sections,
    )


def tiles(result: Result, summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The run in a few names and values."""
    counts, final = result.counts, summary["final_accuracy"]
    yield "test accuracy, mean of the last 10", "-" if final is None else f"{final:.4f}"
    yield "versions", f"{result.newest.version:,}"
    yield "virtual time", in_time(result.virtual_s)
    yield "wall time", in_time(result.wall.total_s)
    yield "updates accepted", f"{counts.updates_accepted:,}"
    yield "updates rejected", f"{summary['updates_rejected']:,}"
    mean, most = summary["mean_tau"], summary["max_tau"]
    yield "staleness, mean and most", "-" if mean is None else f"{mean:.1f}, {most}"
    busy = summary["utilisation"]
    yield "time spent training", "-" if busy is None else f"{busy:.1%}"
    yield "to the server", in_bytes(counts.bytes_up)
    yield "to devices", in_bytes(counts.bytes_down)
    yield "transfers broken off", f"{counts.breaks:,}"


def targets(result: Result) -> Iterator[tuple[str, str]]:
    """Each target, and when it was reached."""
    for target in targets_of(result.scenario):
        reached_s = result.reached_s(target)
        yield f"{target:g}", "never" if reached_s is None else in_time(reached_s)


def _classes(fleet: FleetFile, found: dict[str, dict[str, Any]]) -> str:
    head = ["class", "devices", f"step at {BATCH}", "spread", "share", "there", "trained",
            "updates", "up", "down"]  # fmt: skip
    return table(head, [_class_row(known, fleet, found) for known in fleet.all_classes[:MOST_ROWS]])


def _class_row(known: DeviceClass, fleet: FleetFile, found: dict[str, dict[str, Any]]) -> list[str]:
    numbers = found.get(known.name)
    widest = max(known.lines, key=lambda line: line.keep)
    times = fleet.trace.file if fleet.trace else known.availability or "always"
    facts = [
        known.name,
        f"{numbers['devices']:,}" if numbers else "0",
        f"{widest.step_s(BATCH) * 1e3:.1f} ms",
        f"{known.spread:g}",
        "changing" if known.share_schedule else f"{known.processor_share:.0%}",
        times,
    ]
    if numbers is None or numbers["utilisation"] is None:
        return [*facts, "-", "0", "-", "-"]
    return [
        *facts,
        f"{numbers['utilisation']:.1%}",
        f"{numbers['updates_accepted']:,}",
        in_bytes(numbers["bytes_up"]),
        in_bytes(numbers["bytes_down"]),
    ]


def _links(fleet: FleetFile) -> str:
    head = ["link", "up", "down", "round trip", "loss", "shared"]
    rows = [
        [
            link.name,
            _rate(link.up_bytes_per_s),
            _rate(link.down_bytes_per_s),
            f"{link.rtt_s * 1e3:g} ms",
            f"{link.loss:.1%}",
            link.uplink or "the server's",
        ]
        for link in fleet.all_links[:MOST_ROWS]
    ]
    shared: list[tuple[str, Server | Uplink, str]] = [("the server's", fleet.server, "")]
    shared += [
        (f"{uplink.name} (shared)", uplink, f"by {uplink.devices_each or 'all'} of them")
        for uplink in fleet.uplinks
    ]
    rows += [
        [name, _rate(owner.up_bytes_per_s), _rate(owner.down_bytes_per_s), "", "", by]
        for name, owner, by in shared
    ]
    return table(head, rows)


def _rate(bytes_per_s: float) -> str:
    return in_rate(bytes_per_s) if bytes_per_s else "unlimited"
