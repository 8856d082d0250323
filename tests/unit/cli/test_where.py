"""Which system a command talks about."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hocket.cli.where import System, find
from hocket.errors import NotFound


def test_a_written_system_is_found_again(tmp_path: Path) -> None:
    System("a:1", "b:2", tmp_path, os.getpid()).write()
    found = find(tmp_path, None, None)
    assert (found.registry, found.aggregator, found.is_up) == ("a:1", "b:2", True)


def test_a_system_whose_process_is_gone_is_down(tmp_path: Path) -> None:
    System("a:1", "b:2", tmp_path, 0).write()
    assert not find(tmp_path, None, None).is_up


def test_addresses_win_over_folders(tmp_path: Path) -> None:
    found = find(tmp_path, None, "there:9")
    assert (found.aggregator, found.home, found.is_up) == ("there:9", None, True)


def test_nothing_there_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="hocket up"):
        find(tmp_path, None, None)


def test_a_broken_note_is_told(tmp_path: Path) -> None:
    (tmp_path / "system.json").write_text("{")
    with pytest.raises(NotFound, match=r"system\.json cannot be read"):
        find(tmp_path, None, None)


def test_the_folder_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    System("a:1", "b:2", tmp_path, 0).write()
    monkeypatch.setenv("HOCKET_HOME", str(tmp_path))
    assert find(None, None, None).registry == "a:1"
