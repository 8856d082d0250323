"""The report of a run that is known to the last number."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from support.scalar import device, update

from hocket.cli.dashboard import curve
from hocket.cli.output import in_bytes, plain
from hocket.cli.report import RunData, summarise, write_report
from hocket.cli.report.figures import render
from hocket.core.ids import DeviceId, Version
from hocket.core.records import (
    DevicePhase,
    DeviceStatus,
    Evaluation,
    Status,
    UpdateRecord,
    VersionRecord,
)
from hocket.core.update import Applied, Dropped, DropReason, Outcome


def record(name: str, base: int, outcome: Outcome, at: float) -> UpdateRecord:
    return UpdateRecord(update(name, base).header, outcome, 250, 1000, "int8", at)


def run() -> RunData:
    members = (
        DeviceStatus(DeviceId("<quick>"), DevicePhase.IDLE, Version(0), 2, 0, 500, 2000),
        DeviceStatus(DeviceId("slow"), DevicePhase.IDLE, Version(0), 0, 1, 0, 0),
    )
    status = Status(
        task="tiny & small",
        strategy="fedasmu",
        version=Version(3),
        digest="0" * 16,
        finished_reason="version 3 of 3 reached",
        uptime_s=9.0,
        first_version_s=2.0,
        updates_accepted=2,
        updates_rejected=1,
        bytes_pushed=500,
        bytes_dense_equivalent=2000,
        bytes_pulled=3000,
        evaluated_version=Version(3),
        evaluation=Evaluation(0.2, 0.96),
        devices=members,
    )
    versions = [
        VersionRecord(Version(n), Version(n - 1), "0" * 16, 100.0 + n, (), Evaluation(0.5, 0.3 * n))
        for n in (1, 2, 3)
    ]
    updates = [
        record("<quick>", 1, Applied(Version(2), 0.5, 0), 102.0),
        record("<quick>", 1, Applied(Version(3), 0.25, 1), 103.0),
        record("slow", 1, Dropped(DropReason.TOO_STALE, "train anew", 2), 104.0),
    ]
    return RunData(
        status, [device("<quick>"), device("slow")], versions, updates, 100.0, 8.0, "x <y>", 7
    )


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
    assert curve([0.0, 0.5, 1.0]) == "▁▅█"
    assert curve([at / 1000 for at in range(1001)], points=8) == "▁▂▃▄▅▆▇█"
