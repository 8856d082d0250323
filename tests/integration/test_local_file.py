"""What a local rule keeps, over kills and updates that are not used: MOON's last local model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hocket_device.keeper import Keeper
from hocket_device.outbox import Parcel
from hocket_device.pace import Pace
from hocket_device.resources import Resources
from hocket_device.state import load_state
from hocket_device.throttle import DutyCycle
from hocket_device.trainer import Trainer
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs
from support.learners import base, examples, model, terms
from support.tape import Tape
from torch import Tensor

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.terms import LocalTerms
from hocket.core.update import UpdateHeader
from hocket.errors import DataError
from hocket.learn.strategies import AsoFed, Moon

ME = DeviceId("d1")
MOON, ASO_FED = Moon().local, AsoFed().local


class Life:
    """One process of the device, from what is on disk."""

    def __init__(self, folder: Path, local: LocalTerms = MOON, task: str = "t") -> None:
        resources = Resources(lambda: 1.0, lambda: 1.0, lambda: 0)
        pace = Pace(DutyCycle(lambda: 1.0, lambda _: None), resources, threading.Event())
        usual = terms()
        told = replace(
            usual,
            training=replace(usual.training, local=local),
            encoding=replace(usual.encoding, error_feedback=False),
            dropout_rows=(),
        )
        self.trainer = Trainer(model(), examples(), told, pace, name=ME)
        self.keeper = Keeper(folder, load_state(folder), self.trainer)
        self.keeper.open(task, ME)

    def put_in(self, number: int) -> None:
        """A training, up to its update in the outbox."""
        self.trainer.start(base(), number)
        self.trainer.train_epoch(1)
        header = UpdateHeader(
            UpdateId(f"u{number}"), ME, Incarnation(1), Version(number), 40, 3, 0.1
        )
        self.keeper.commit({"trainings": number}, Parcel(header, self.trainer.encode()))

    def settle(self, *, used: bool) -> None:
        """What follows from the outcome of what is in the outbox."""
        if self.keeper.parcel is not None:
            if not used:
                self.trainer.put_back()
            self.keeper.commit(self.keeper.state.participant, None)

    def last(self) -> Tensor | None:
        return self.trainer.kept.get("model")


def same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other is None or (
        one is not None and other is not None and torch.equal(one, other)
    )


def locals_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("local-*"))


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape()


@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
def test_after_a_kill_at_any_moment_the_last_model_is_that_of_the_last_update_that_was_used(
    tmp_path: Path, tape: Tape, *, used: bool
) -> None:
    life = Life(tmp_path / "d1")
    life.put_in(1)
    life.settle(used=True)
    first = life.last()
    with tape.over(tmp_path / "d1", "began"):
        life.put_in(2)
    began = list(tape.copies)
    second = life.last()
    assert not same(first, second)
    with tape.over(tmp_path / "d1", "ended"):
        life.settle(used=used)
    turns = []
    for folder in began + tape.copies:
        after = Life(folder)
        two = after.keeper.state.participant == {"trainings": 2}
        turns.append(two)
        after.settle(used=used)
        assert same(after.last(), second if two and used else first)
        assert same(Life(folder).last(), after.last())
        assert len(locals_of(folder)) == 1
        after.put_in(3)  # and on it goes
        assert same(Life(folder).last(), after.last())
    turn = turns.index(True)
    assert 2 <= turn < len(began)
    assert turns == [False] * turn + [True] * (len(turns) - turn)


def test_before_the_first_update_was_used_there_is_no_last_model(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.put_in(1)
    assert Life(tmp_path).last() is not None
    again = Life(tmp_path)
    again.settle(used=False)
    assert again.last() is None
    assert Life(tmp_path).last() is None
    assert locals_of(tmp_path) == []


def test_a_second_update_takes_the_place_of_one_whose_end_could_not_be_written(
    tmp_path: Path,
) -> None:
    life = Life(tmp_path)
    life.put_in(1)
    life.settle(used=True)
    first = life.last()
    life.put_in(2)
    in_the_way = tmp_path / "device.json.new"
    in_the_way.mkdir()
    life.trainer.put_back()
    with capture_logs() as logs:
        life.keeper.try_to_commit({"trainings": 2}, None)
    assert [entry["event"] for entry in logs] == ["state_not_saved"]
    in_the_way.rmdir()
    life.put_in(3)
    again = Life(tmp_path)
    assert same(again.last(), life.last())
    again.settle(used=False)
    assert same(again.last(), first)


def test_a_commit_that_fails_takes_no_room_and_the_next_writes_all(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.put_in(1)
    life.settle(used=True)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    in_the_way = tmp_path / "device.json.new"
    in_the_way.mkdir()
    for _ in range(2):
        with pytest.raises(OSError, match=r"device\.json"):
            life.put_in(2)
    in_the_way.rmdir()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    life.put_in(2)
    assert same(Life(tmp_path).last(), life.last())


def test_it_is_written_once_and_two_are_there_only_while_an_update_is_on_its_way(
    tmp_path: Path,
) -> None:
    life = Life(tmp_path)
    seen = []
    for number in range(1, 4):
        life.put_in(number)
        seen.append(len(locals_of(tmp_path)))
        newest = locals_of(tmp_path)[-1]
        written = newest.stat().st_mtime_ns
        life.settle(used=True)
        Life(tmp_path).keeper.commit({"trainings": number}, None)
        assert [file.stat().st_mtime_ns for file in locals_of(tmp_path)] == [written]
    assert seen == [1, 2, 2]


def test_an_update_that_was_lost_with_its_outbox_was_not_used(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.put_in(1)
    life.settle(used=True)
    first = life.last()
    life.put_in(2)
    [file] = tmp_path.glob("outbox-*")
    file.write_bytes(b"damaged")
    with capture_logs():
        again = Life(tmp_path)
    assert again.keeper.parcel is None
    assert same(again.last(), first)


def test_what_another_task_or_another_rule_kept_is_not_taken_up(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.put_in(1)
    life.settle(used=True)
    assert dict(Life(tmp_path, ASO_FED).trainer.kept) == {}
    life = Life(tmp_path)
    assert life.last() is None  # the rule between has begun anew
    life.put_in(2)
    life.settle(used=True)
    assert Life(tmp_path, task="other").last() is None
    assert locals_of(tmp_path) == []


def spoil_delays(file: Path) -> None:
    tensors = load_file(file)
    save_file(
        tensors | {"delays": torch.full((2,), -1.0)},
        file,
        {"kind": "decayed", "manifest": terms().manifest.digest},
    )


@pytest.mark.parametrize(
    "spoil", [lambda file: file.write_bytes(file.read_bytes()[:-5]), spoil_delays]
)
def test_a_damaged_file_is_named(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    life = Life(tmp_path, ASO_FED)
    life.put_in(1)
    life.settle(used=True)
    [file] = locals_of(tmp_path)
    spoil(file)
    with pytest.raises(DataError, match=file.name):
        Life(tmp_path, ASO_FED)
    file.unlink()
    with capture_logs() as logs:
        again = Life(tmp_path, ASO_FED)
    assert dict(again.trainer.kept) == {}
    assert {entry["event"] for entry in logs} == {"local_rule_starts_anew"}


def test_gradients_and_delays_go_on_after_a_restart(tmp_path: Path) -> None:
    life = Life(tmp_path, ASO_FED)
    life.put_in(1)
    life.trainer.settled(30.0)
    life.settle(used=True)
    life.put_in(2)
    again = Life(tmp_path, ASO_FED)
    assert again.trainer.memory.mean_delay_s == 30.0
    for name in ("average", "gradient"):
        assert life.trainer.kept[name].any()
        assert torch.equal(again.trainer.kept[name], life.trainer.kept[name])
