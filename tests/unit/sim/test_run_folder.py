"""A run's folder is there whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hocket.errors import StartupError
from hocket.sim.run_folder import RunFolder, point_latest


def test_it_takes_its_name_at_the_end(tmp_path: Path) -> None:
    runs = tmp_path / "a" / "runs"
    with RunFolder(runs, "tiny-7") as folder:
        (folder.path / "summary.json").write_text("{}")
        assert not (runs / "tiny-7").exists()
        assert not (runs / "latest").exists()
    assert folder.path == runs / "tiny-7"
    assert (runs / "latest" / "summary.json").read_text() == "{}"
    assert sorted(path.name for path in runs.iterdir()) == ["latest", "tiny-7"]


def write_half(runs: Path, what: BaseException) -> None:
    with RunFolder(runs, "tiny-7") as folder:
        (folder.path / "figures").mkdir()
        (folder.path / "figures" / "a.svg").write_text("half")
        raise what


@pytest.mark.parametrize("what", [KeyboardInterrupt(), ValueError("a slip"), SystemExit(1)])
def test_nothing_is_left_of_a_run_that_did_not_end_well(
    tmp_path: Path, what: BaseException
) -> None:
    with pytest.raises(type(what)):
        write_half(tmp_path, what)
    assert list(tmp_path.iterdir()) == []


def test_runs_of_the_same_name_get_a_number(tmp_path: Path) -> None:
    (tmp_path / "tiny-7").mkdir()
    with RunFolder(tmp_path, "tiny-7") as second, RunFolder(tmp_path, "tiny-7") as third:
        assert {second.name, third.name} == {"tiny-7-2", "tiny-7-3"}
    assert (tmp_path / "latest").resolve() == second.path
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "latest",
        "tiny-7",
        "tiny-7-2",
        "tiny-7-3",
    ]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"file/runs: Not a directory; choose another"):
        RunFolder(tmp_path / "file" / "runs", "tiny-7").__enter__()


def test_a_folder_named_latest_is_left_alone_and_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(StartupError, match="latest is in the way"):
        RunFolder(tmp_path, "tiny-7").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


def test_latest_may_lead_nowhere_before(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("gone")
    (tmp_path / "new").mkdir()
    point_latest(tmp_path, "new")
    assert (tmp_path / "latest").resolve() == tmp_path / "new"
