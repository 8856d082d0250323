"""A job's name among the files, and its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_jobs import JOB, row, seeded

from hocket.errors import CorruptState, StartupError
from hocket.sim.study.jobs import JobFiles, Made

ROW = row(0.25, 0.5)


def test_the_same_settings_are_the_same_job_whoever_asks() -> None:
    other = replace(JOB, method="another", purpose="tuning", fleet_file="/elsewhere/fleet.toml")
    assert other.settings.key == JOB.settings.key
    turned = dict(reversed({"b": 2, "a": 1}.items()))
    assert seeded(1, **turned).settings.key == seeded(1, a=1, b=2).settings.key


def test_a_key_stays_what_it_was() -> None:
    """Files of earlier runs are found by it."""
    assert JOB.settings.key == "5f56c5a725de0d2e"


MADE = Made("abc+", "2.13", "Linux, 2 processor cores", 1.8e9)


def test_what_made_a_row_is_kept_beside_it(tmp_path: Path) -> None:
    JobFiles(tmp_path).write(JOB, replace(ROW, made=MADE))
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    assert document["made"] == {
        "code": "abc+",
        "torch": "2.13",
        "machine": "Linux, 2 processor cores",
        "finished_unix_s": 1.8e9,
    }
    assert "made" not in document["row"]
    known = JobFiles(tmp_path).read(JOB)
    assert known is not None
    assert known.made == MADE


def test_a_file_that_does_not_say_what_made_it_is_read(tmp_path: Path) -> None:
    JobFiles(tmp_path).write(JOB, ROW)
    (file,) = tmp_path.iterdir()
    assert "made" not in json.loads(file.read_text())
    known = JobFiles(tmp_path).read(JOB)
    assert known is not None
    assert known.made is None


@pytest.mark.parametrize("at", ['"yesterday"', "NaN"])
def test_a_time_that_cannot_be_told_is_a_damaged_file(tmp_path: Path, at: str) -> None:
    JobFiles(tmp_path).write(JOB, replace(ROW, made=MADE))
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace("1800000000.0", at))
    with pytest.raises(CorruptState, match=r"no time|must be real"):
        JobFiles(tmp_path).read(JOB)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 12},
        {"changes": {"strategy.kind": "fedasync"}},
        {"task": "other"},
        {"fleet": "other"},
        {"virtual_s": 10.0},
        {"evaluate_every_s": 1.0},
        {"test_examples": 5},
        {"devices": 3},
        {"examples_per_device": 3},
        {"device": "cuda"},
    ],
)
def test_a_changed_setting_is_another_job(change: dict[str, Any]) -> None:
    assert replace(JOB.settings, **change).key != JOB.settings.key


def test_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    JobFiles(tmp_path / "jobs").write(JOB, ROW)
    files = JobFiles(tmp_path / "jobs")
    assert files.read(JOB) == ROW
    assert files.read(seeded(99)) is None
    (file,) = (tmp_path / "jobs").iterdir()
    assert file.name == f"{JOB.settings.key}.json"
    document = json.loads(file.read_text())
    assert document["settings"]["changes"] == {"strategy.kind": "fedbuff"}
    assert [point["accuracy"] for point in document["row"]["curve"]] == [0.25, 0.5]


def test_half_a_file_of_a_killed_process_is_no_job(tmp_path: Path) -> None:
    (tmp_path / f"{JOB.settings.key}.partial").write_text('{"row": {')
    assert JobFiles(tmp_path).read(JOB) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"row": {"curve": []}}', '{"row": {"curve": [1]}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / f"{JOB.settings.key}.json"
    file.write_text(text)
    with pytest.raises(CorruptState, match=r"remove the file, and the job is run again") as said:
        JobFiles(tmp_path).read(JOB)
    assert str(file) in said.value.message


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("in the way")
    with pytest.raises(StartupError, match="--out"):
        JobFiles(tmp_path / "jobs").write(JOB, ROW)


def test_a_row_knows_when_a_target_was_reached() -> None:
    assert ROW.reached_s(0.3) == 20.0
    assert ROW.reached_s(0.25) == 10.0
    assert ROW.reached_s(0.6) is None
    assert ROW.accuracy(1) == 0.5
    assert row().accuracy() is None
