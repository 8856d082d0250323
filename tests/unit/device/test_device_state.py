from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hocket_device.residual import load_residual, save_residual
from hocket_device.state import State, Tally, load_state, save_state

from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.errors import DataError, StartupError
from hocket.learn.codecs.feedback import ErrorFeedback

PARTICIPANT = {"gamma": 1.5, "slots": None}
KEPT = State("d1", "digits 0123", PARTICIPANT, Tally(3, 2, 1, 400, 500), 7, 6, 7)


def test_a_new_folder_is_made_and_holds_nothing(tmp_path: Path) -> None:
    assert load_state(tmp_path / "a" / "b") == State()


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save_state(KEPT, tmp_path)
    assert load_state(tmp_path) == KEPT
    assert [file.name for file in tmp_path.iterdir()] == ["device.json"]


def test_a_file_half_written_when_the_power_went_leaves_the_old_state(tmp_path: Path) -> None:
    save_state(KEPT, tmp_path)
    (tmp_path / "device.json.new").write_text('{"format": 1, "dev')
    assert load_state(tmp_path) == KEPT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        json.dumps({"format": 2}),
        json.dumps({"format": 1, "tally": {}, "more": 1}),
        json.dumps({"format": 1}),
        json.dumps({"format": 1, "tally": {}, "outbox": "the first"}),
        json.dumps({"format": 1, "tally": 3}),
        "1",
        "null",
        '"x"',
        "[" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_a_damaged_file_is_a_typed_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "device.json").write_text(text)
    with pytest.raises(DataError, match=r"device\.json is damaged.*delete it"):
        load_state(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="DEVICE_STATE_DIR"):
        load_state(tmp_path / "file")


def test_a_residual_comes_back_with_the_part_that_it_belongs_to(tmp_path: Path) -> None:
    part = ("abc", SubmodelSpec((0.5,), ChannelRule.RANDOM, 7))
    file = tmp_path / "residual-1.safetensors"
    save_residual(ErrorFeedback(residual=torch.arange(5.0), part=part), file)
    again = ErrorFeedback()
    load_residual(again, file)
    assert again.part == part
    assert again.residual is not None
    assert again.residual.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_who_keeps_no_residual_takes_none_back(tmp_path: Path) -> None:
    file = tmp_path / "residual-1.safetensors"
    save_residual(ErrorFeedback(), file)
    assert list(tmp_path.iterdir()) == []
    save_residual(ErrorFeedback(residual=torch.ones(1), part=("a", SubmodelSpec())), file)
    load_residual(off := ErrorFeedback(enabled=False), file)
    assert off.residual is None


def test_a_damaged_residual_is_a_typed_error(tmp_path: Path) -> None:
    file = tmp_path / "residual-1.safetensors"
    file.write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"residual-1\.safetensors.*delete it"):
        load_residual(ErrorFeedback(), file)
