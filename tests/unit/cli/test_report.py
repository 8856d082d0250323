"""The report of a run that is known to the last number."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from support.runs import record, run

from hocket.cli.dashboard import curve
from hocket.cli.output import in_bytes, plain
from hocket.cli.report import summarise, write_report
from hocket.cli.report.demo_figures import render
from hocket.core.update import Dropped, DropReason


def test_the_summary_has_the_promised_keys_and_numbers(tmp_path: Path) -> None:
    write_report(run(), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    expected = {
        "test_accuracy": 0.96,
        "versions": 3,
        "updates_accepted": 2,
        "updates_rejected": 1,
        "first_version_s": 2.0,
        "wall_s": 8.0,
        "bytes_pushed": 500,
        "bytes_dense_equivalent": 2000,
        "seed": 7,
    }
    assert {key: summary[key] for key in expected} == expected
    assert summary["devices"]["<quick>"]["bytes_pushed"] == 500


def test_the_page_holds_every_figure_and_escapes_names(tmp_path: Path) -> None:
    write_report(run(), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 4
    for told in ("Accuracy over time", "Staleness", "contributed", "Bytes", "tiny &amp; small"):
        assert told in page
    assert "x &lt;y&gt;" in page
    assert list(tmp_path.glob("*.partial")) == []


def test_figures_are_sound_svg_and_show_the_last_accuracy() -> None:
    figures = render(run())
    for svg in figures.values():
        ET.fromstring(svg)  # noqa: S314 -- we have just made it
    assert "0.900" in figures["Accuracy over time"]  # 0.3 * 3, the newest evaluation


def test_a_run_without_updates_still_gives_a_report(tmp_path: Path) -> None:
    empty = replace(run(), updates=[], versions=[], devices=[])
    empty = replace(empty, status=replace(empty.status, devices=(), evaluation=None))
    write_report(empty, tmp_path)
    assert summarise(empty)["test_accuracy"] is None


def test_records_become_plain_json() -> None:
    told = plain(record("slow", 1, Dropped(DropReason.TOO_STALE, "train anew", 2), 104.0))
    assert told["outcome"] == {
        "kind": "dropped",
        "reason": "too_stale",
        "message": "train anew",
        "tau": 2,
    }
    json.dumps(told)


def test_bytes_and_curves_for_people() -> None:
    assert [in_bytes(n) for n in (0, 1023, 1536, 5 * 1024**3)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]
    assert curve([0.0, 0.5, 1.0], points=9) == "▁▅█"
    assert curve([at / 1000 for at in range(1001)], points=8) == "▁▂▃▄▅▆▇█"
