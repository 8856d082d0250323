"""Bases in files: the same bits, and no memory of our own."""

from __future__ import annotations

from pathlib import Path

import torch
from hocket_aggregator.shelf import FileShelf
from structlog.testing import capture_logs

from hocket.core.ids import Version

MODEL = torch.randn(100_000, generator=torch.Generator().manual_seed(1))


def test_a_base_comes_back_bit_for_bit_from_its_file(tmp_path: Path) -> None:
    shelf = FileShelf(tmp_path / "bases")
    shelved = shelf.put(Version(3), MODEL)
    assert torch.equal(shelved, MODEL)
    (file,) = (tmp_path / "bases").iterdir()
    assert file.stat().st_size == MODEL.nbytes
    content = bytearray(file.read_bytes())
    content[:4] = torch.tensor([7.0]).numpy().tobytes()
    with file.open("r+b") as stored:  # what is mapped is the file
        stored.write(content)
    assert shelved[0] == 7.0


def test_dropping_one_frees_its_file_and_leaves_readers_alone(tmp_path: Path) -> None:
    shelf = FileShelf(tmp_path)
    shelved = shelf.put(Version(3), MODEL)
    shelf.drop(Version(3))
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(shelved, MODEL)
    shelf.drop(Version(4))  # was never there


def test_what_an_earlier_process_left_is_cleared(tmp_path: Path) -> None:
    FileShelf(tmp_path / "bases").put(Version(1), MODEL)
    FileShelf(tmp_path / "bases")
    assert not (tmp_path / "bases").exists()


def test_a_folder_that_takes_no_file_leaves_the_base_in_memory(tmp_path: Path) -> None:
    (tmp_path / "bases").write_text("in the way")
    shelf = FileShelf(tmp_path / "bases")
    with capture_logs() as logs:
        assert shelf.put(Version(1), MODEL) is MODEL
    assert [entry["event"] for entry in logs] == ["base_not_shelved"]
