"""`hocket compare` refuses what it could not end with before anything is run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from support.fake_jobs import Inline
from typer.testing import CliRunner

from hocket.cli.app import app
from hocket.cli.compare.comparing import Wishes, compare, plan_of
from hocket.errors import StartupError, TaskError

FLEET = """
seed = 4
devices = 4
[[class]]
name = "quick"
per_example_s = 0.01
[stop]
virtual_s = 100.0
"""
STUDY = """
seeds = [11]
[[dataset]]
name = "one"
fleet = "fleet.toml"
[[dataset]]
name = "two"
fleet = "other.toml"
[[method]]
name = "mine"
[scale.half]
datasets = ["one"]
"""
ON_A_GPU = '[run]\ndevice = "cuda"\n'


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    file = tmp_path / "fleet.toml"
    file.write_text(FLEET)
    return file


def refused(fleet: Path, kind: type[Exception], said: str, **wishes: Any) -> None:
    """Nothing is run, and nothing is left behind."""
    before, engine = sorted(fleet.parent.rglob("*")), Inline()
    with pytest.raises(kind, match=said):
        compare(
            Wishes(fleet, **({"out": fleet.parent / "out"} | wishes)),
            Console(file=io.StringIO()),
            engine,
        )
    assert engine.ran == []
    assert sorted(fleet.parent.rglob("*")) == before


def test_a_folder_that_cannot_be_made_is_told_first(fleet: Path) -> None:
    refused(fleet, StartupError, "cannot be written: .*--out", out=fleet / "out")
    (fleet.parent / "out" / "rows.json").mkdir(parents=True)
    refused(fleet, StartupError, r"rows\.json cannot be written: it is a folder")


def test_a_report_that_cannot_be_written_is_told_first(fleet: Path) -> None:
    here = fleet.parent
    refused(fleet, StartupError, r"x\.md cannot be written: .*--report", report=fleet / "x.md")
    refused(fleet, StartupError, "cannot be written: .*--report", report=here / ("x" * 300 + ".md"))
    refused(fleet, StartupError, "cannot be written: it is a folder", report=here)
    (here / "mine.json").mkdir()
    refused(fleet, StartupError, r"mine\.json cannot be written", report=here / "mine.md")


def test_a_report_in_the_place_of_another_file_is_refused(fleet: Path) -> None:
    here = fleet.parent
    refused(fleet, TaskError, "let the page end in .md", report=here / "x.json")
    refused(fleet, TaskError, "take another file", report=here / "out" / "compare.html")


def test_what_can_be_written_is(fleet: Path) -> None:
    report = fleet.parent / "some" / "where" / "x.md"
    out = fleet.parent / "out" / "deep"
    compare(Wishes(fleet, out=out, report=report), Console(file=io.StringIO()), Inline())
    assert report.exists()
    assert report.with_suffix(".json").exists()
    assert (out / "compare.html").exists()


def test_the_device_is_the_fleet_s_unless_one_is_named(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan_of(Wishes(fleet)).device == "cpu"
    fleet.write_text(FLEET + ON_A_GPU)
    assert {job.settings.device for job in plan_of(Wishes(fleet)).report_jobs({})} == {"cuda"}
    assert plan_of(Wishes(fleet, device="cpu")).device == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TaskError, match="device is 'cuda', but"):
        compare(Wishes(fleet, out=fleet.parent / "out"), Console(file=io.StringIO()))
    monkeypatch.chdir(fleet.parent)
    answer = CliRunner().invoke(app, ["compare", str(fleet)])  # no default of the option's own
    assert isinstance(answer.exception, TaskError)
    assert "device is 'cuda'" in answer.exception.message


def test_fleets_of_two_devices_need_a_choice(fleet: Path) -> None:
    fleet.with_name("other.toml").write_text(FLEET + ON_A_GPU)
    study = fleet.with_name("mine.toml")
    study.write_text(STUDY)
    with pytest.raises(TaskError, match="choose one for all with --device"):
        plan_of(Wishes(study))
    assert plan_of(Wishes(study, device="cuda")).device == "cuda"
    assert plan_of(Wishes(study, scale="half")).device == "cpu"  # without the other data set


@pytest.mark.parametrize("named", [(-1,), (5, 2**63)])
def test_seeds_out_of_range_are_refused(fleet: Path, named: tuple[int, ...]) -> None:
    with pytest.raises(TaskError, match="choose seeds from 0 to"):
        plan_of(Wishes(fleet, seeds=named))


def test_so_many_seeds_are_a_slip(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fleet.parent)
    answer = CliRunner().invoke(app, ["compare", str(fleet), "--seeds", "1000000000"])
    assert isinstance(answer.exception, TaskError)
    assert "1000 are the most" in answer.exception.message
    assert "1000000000," in answer.exception.message
