"""The report of a simulation that is known to the last number."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from support.simulated import curve, devices, result, rows, scenario, tally_of

from hocket.cli.output import in_time
from hocket.cli.report.sim_figures import MOST_CLASSES, render
from hocket.cli.report.sim_page import write_report
from hocket.sim.result import Result
from hocket.sim.summary import summarise

COMMAND = "hocket simulate <tiny>.toml --seed 7"


def report(known: Result, folder: Path) -> str:
    folder.mkdir()
    summary = summarise(known, command=COMMAND)
    write_report(known, tally_of(rows(), known.devices), summary, folder)
    return (folder / "report.html").read_text()


def texts(svg: str) -> list[str]:
    """What is written in a figure, which must be sound."""
    tree = ET.fromstring(svg)  # noqa: S314 -- we have just made it
    return ["".join(text.itertext()) for text in tree.iter("{http://www.w3.org/2000/svg}text")]


def test_the_page_tells_command_seed_fleet_and_figures(tmp_path: Path) -> None:
    page = report(result(tmp_path), tmp_path / "run")
    assert "made by <code>hocket simulate &lt;tiny&gt;.toml --seed 7</code> with seed 7" in page
    assert "2 h 0 min of virtual time in 10 s" in page
    assert "fedasmu on the fleet tiny of 6 devices" in page
    assert page.count("<svg") == 4
    assert "<td>slow &lt;&amp;&gt;</td><td>3</td><td>320.0 ms</td>" in page  # 32 * 0.01 s
    assert "<td>wire</td><td>976.6 KiB/s</td><td>unlimited</td>" in page
    assert "<td>0.5</td><td>20 min 0 s</td>" in page
    assert "<td>0.9</td><td>never</td>" in page
    figures = sorted(path.name for path in (tmp_path / "run" / "figures").iterdir())
    assert figures == ["accuracy.svg", "staleness.svg", "traffic.svg", "utilisation.svg"]
    for name in figures:
        assert (tmp_path / "run" / "figures" / name).read_text() in page


def test_the_figures_mark_targets_and_name_devices(tmp_path: Path) -> None:
    known = result(tmp_path)
    figures = {
        name: texts(svg)
        for name, (_, svg) in render(known, tally_of(rows(), known.devices)).items()
    }
    assert "0.5: after 20 min 0 s" in figures["accuracy"]
    assert "0.9: never" in figures["accuracy"]
    assert f"{curve()[-1].accuracy:.3f}" in figures["accuracy"]
    assert "hours of virtual time" in figures["accuracy"]
    assert {"quick", "slow <&>", "versions behind (tau)"} <= set(figures["staleness"])
    assert {"to devices", "to the server", "B/s"} <= set(figures["traffic"])
    assert "device-5 (slow <&>)" in figures["utilisation"]


def test_the_figures_of_a_run_are_always_the_same_text(tmp_path: Path) -> None:
    known = result(tmp_path)
    first = render(known, tally_of(rows(), known.devices))
    assert render(known, tally_of(rows(), known.devices)) == first


def test_a_hundred_thousand_devices_are_shown_by_class(tmp_path: Path) -> None:
    classes = [f"class {number:02d}" for number in range(3 * MOST_CLASSES)]
    known = replace(result(tmp_path), devices=devices(100_000, classes))
    tally = tally_of(rows(500, 50, apart_s=14.4), known.devices[:50])
    figures = {name: texts(svg) for name, (_, svg) in render(known, tally).items()}
    assert "class 00 (4,167)" in figures["utilisation"]
    assert not any("device-" in text for text in figures["utilisation"])
    shown = [text for text in figures["staleness"] if text.startswith("class ")]
    assert len(shown) == MOST_CLASSES - 1
    assert "others" in figures["staleness"]


def test_a_run_in_which_nothing_happened_still_gives_a_report(tmp_path: Path) -> None:
    known = replace(result(tmp_path), curve=(), virtual_s=0.0, devices=[])
    told = {name: texts(svg) for name, (_, svg) in render(known, tally_of([], [])).items()}
    assert told["accuracy"] == ["the model was not evaluated"]
    assert told["staleness"] == ["no update was accepted"]
    assert told["traffic"] == ["nothing travelled"]
    page = report(replace(known, devices=devices(6)), tmp_path / "run")
    assert "<td>0.5</td><td>never</td>" in page


def test_shared_links_and_unused_classes_are_listed(tmp_path: Path) -> None:
    text = """
    name = "cells"
    devices = 6
    [[class]]
    name = "quick"
    per_example_s = 0.001
    availability = "plan"
    [[class]]
    name = "unused"
    share = 0.0001
    preset = "whale:Jetson Nano"
    [[link]]
    name = "lte"
    rtt_s = 0.08
    loss = 0.015
    uplink = "cell"
    [[uplink]]
    name = "cell"
    up_bytes_per_s = 1048576.0
    devices_each = 3
    [[availability]]
    name = "plan"
    kind = "windows"
    steps = [[60.0, true], [60.0, false]]
    [stop]
    versions = 9
    """
    known = result(tmp_path)
    known = replace(known, scenario=scenario(tmp_path, text), devices=devices(6, ["quick"]))
    page = report(known, tmp_path / "run")
    assert "<td>unused</td><td>0</td>" in page
    assert "<td>plan</td>" in page
    assert "<td>lte</td><td>unlimited</td><td>unlimited</td><td>80 ms</td><td>1.5%</td>" in page
    assert "<td>cell (shared)</td><td>1.0 MiB/s</td>" in page
    assert "by 3 of them" in page
    assert "Time to target" not in page


def test_spans_of_time_for_people() -> None:
    spans = [0.0, 0.5, 59.4, 60.0, 199.6, 7199.0, 7200.0, 96_000.0]
    assert [in_time(seconds) for seconds in spans] == [
        "0 s", "0.5 s", "59.4 s", "1 min 0 s", "3 min 20 s", "119 min 59 s", "2 h 0 min",
        "26 h 40 min",
    ]  # fmt: skip
