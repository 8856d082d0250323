"""A device's folder, with a kill at every moment: nothing is lost, and nothing counted twice."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field
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
from structlog.testing import capture_logs
from support.tape import Tape
from torch import Tensor, nn

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.payload import CodecId, Payload
from hocket.core.terms import EncodingTerms, RefreshTerms, TaskTerms, TrainingTerms
from hocket.core.update import UpdateHeader
from hocket.learn.codecs import Raw
from hocket.learn.codecs.payload import decode_payload, encode_payload
from hocket.learn.data import Examples
from hocket.learn.flat import flatten, manifest_of

ME = DeviceId("d1")
TASK = "digits 0123"


def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


MANIFEST = manifest_of(model())
EXAMPLES = Examples(torch.ones(4, 64), torch.arange(4))


def terms(codec: CodecId) -> TaskTerms:
    return TaskTerms(
        name="test",
        manifest=MANIFEST,
        training=TrainingTerms(local_epochs=1, batch_size=4, learning_rate=0.1),
        encoding=EncodingTerms(codec, topk_ratio=0.05),
        refresh=RefreshTerms(enabled=False),
        dropout_rows=(),
        seed=1,
        max_update_bytes=1 << 20,
        chunk_bytes=1 << 19,
        staleness_limit=99,
    )


def delta(training: int) -> Tensor:
    """What training number `training` comes to; entries of very different size."""
    chance = torch.Generator().manual_seed(training)
    return torch.randn(MANIFEST.size, generator=chance).pow(3)


def raw(vector: Tensor) -> Payload:
    return encode_payload(vector, MANIFEST, Raw(), torch.Generator(), pack=False)


@dataclass
class Aggregator:
    """Answers an update_id once and for all."""

    accepts: bool
    total: Tensor = field(default_factory=lambda: torch.zeros(MANIFEST.size))
    answers: dict[str, bool] = field(default_factory=dict)

    def push(self, parcel: Parcel) -> bool:
        update_id = parcel.header.update_id
        if update_id not in self.answers:
            self.answers[update_id] = self.accepts
            if self.accepts:
                self.total += decode_payload(parcel.payload, MANIFEST)
        return self.answers[update_id]


class Life:
    """One process of the device, from what is on disk."""

    def __init__(
        self, folder: Path, codec: CodecId = CodecId.TOPK, task: str = TASK, name: str = ME
    ) -> None:
        resources = Resources(lambda: 1.0, lambda: 1.0, lambda: 0)
        pace = Pace(DutyCycle(lambda: 1.0, lambda _: None), resources, threading.Event())
        self.trainer = Trainer(model(), EXAMPLES, terms(codec), pace, name=ME)
        self.keeper = Keeper(folder, load_state(folder), self.trainer)
        self.keeper.open(task, DeviceId(name))

    def train(self, number: int) -> Parcel:
        """Everything up to the update in memory."""
        base = flatten(model())
        self.trainer.start(raw(base), number)
        self.trainer.merge(raw(base + delta(number)), 1.0)
        header = UpdateHeader(
            UpdateId(f"u{number}"), ME, Incarnation(1), Version(number), 4, 1, 0.1
        )
        return Parcel(header, self.trainer.encode())

    def put_in(self, number: int) -> Parcel:
        """Up to the update in the outbox."""
        parcel = self.train(number)
        self.keeper.commit({"trainings": number}, parcel)
        return parcel

    def settle(self, aggregator: Aggregator) -> None:
        """Push what is in the outbox, and do what follows."""
        if self.keeper.parcel is not None:
            if not aggregator.push(self.keeper.parcel):
                self.trainer.put_back()
            self.keeper.commit(self.keeper.state.participant, None)

    def balance(self, aggregator: Aggregator) -> Tensor:
        """All that arrived and all that is left to send."""
        left = self.trainer.residual
        return aggregator.total if left is None else aggregator.total + left


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape()


def given(trainings: int) -> Tensor:
    return sum((delta(number) for number in range(1, trainings + 1)), torch.zeros(MANIFEST.size))


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0.0, atol=1e-4)


CODECS = [CodecId.TOPK, CodecId.INT8, CodecId.RAW]
ANSWERS = pytest.mark.parametrize("accepts", [True, False], ids=["accepted", "rejected"])


@ANSWERS
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_after_a_kill_at_any_moment_what_arrived_and_what_is_left_are_the_deltas(
    tmp_path: Path, tape: Tape, codec: CodecId, *, accepts: bool
) -> None:
    aggregator = Aggregator(accepts)
    life = Life(tmp_path / "d1", codec)
    life.put_in(1)
    life.settle(aggregator)
    before = copy.deepcopy(aggregator)
    with tape.over(tmp_path / "d1", "began"):
        life.put_in(2)
    began = [(folder, before) for folder in tape.copies]
    with tape.over(tmp_path / "d1", "ended"):
        life.settle(aggregator)
    ended = [(folder, aggregator) for folder in tape.copies]
    kept = []
    for folder, server in began + ended:
        served = copy.deepcopy(server)
        after = Life(folder, codec)
        trainings = 2 if after.keeper.state.participant == {"trainings": 2} else 1
        kept.append(trainings)
        after.settle(served)
        assert close(after.balance(served), given(trainings))
        after.settle(served)  # nothing left to do
        after.put_in(3)
        Life(folder, codec).settle(served)
        assert close(Life(folder, codec).balance(served), given(trainings) + delta(3))
    # The one moment lies within the first commit, after files had been written for it.
    turn = kept.index(2)
    assert 2 <= turn < len(began)
    assert kept == [1] * turn + [2] * (len(kept) - turn)
    assert len(ended) >= 3


@ANSWERS
def test_a_kill_after_each_step_in_memory_changes_nothing(tmp_path: Path, *, accepts: bool) -> None:
    aggregator = Aggregator(accepts)
    Life(tmp_path).train(1)  # encoded, not kept: the training is lost, and only that
    assert Life(tmp_path).keeper.parcel is None
    assert Life(tmp_path).trainer.residual is None
    life = Life(tmp_path)
    parcel = life.put_in(1)
    life = Life(tmp_path)  # kept, not sent
    assert life.keeper.parcel is not None
    assert life.keeper.parcel.header == parcel.header
    assert bytes(life.keeper.parcel.payload.body) == bytes(parcel.payload.body)
    aggregator.push(life.keeper.parcel)
    life = Life(tmp_path)  # sent, no answer came
    assert life.keeper.parcel is not None
    life.trainer.put_back()
    life = Life(tmp_path)  # answered and taken back, not kept
    life.settle(aggregator)
    life = Life(tmp_path)  # all done
    assert life.keeper.parcel is None
    assert close(life.balance(aggregator), given(1))


def test_a_second_update_takes_the_place_of_one_whose_end_could_not_be_written(
    tmp_path: Path,
) -> None:
    aggregator = Aggregator(accepts=False)
    life = Life(tmp_path)
    life.put_in(1)
    in_the_way = tmp_path / "device.json.new"
    in_the_way.mkdir()
    assert life.keeper.parcel is not None
    assert not aggregator.push(life.keeper.parcel)
    life.trainer.put_back()
    with capture_logs() as logs:
        life.keeper.try_to_commit({"trainings": 1}, None)
    assert [entry["event"] for entry in logs] == ["state_not_saved"]
    in_the_way.rmdir()
    life.put_in(2)
    again = Life(tmp_path)
    again.settle(aggregator)
    assert close(again.balance(aggregator), given(2))


def test_a_commit_that_fails_keeps_what_was_there_and_takes_no_room(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.put_in(1)
    life.settle(Aggregator(accepts=True))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    (tmp_path / "device.json.new").mkdir()
    parcel = life.train(2)
    for _ in range(3):
        with pytest.raises(OSError, match=r"device\.json"):
            life.keeper.commit({"trainings": 2}, parcel)
    (tmp_path / "device.json.new").rmdir()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    life.keeper.commit({"trainings": 2}, parcel)
    assert Life(tmp_path).keeper.parcel is not None


def test_only_what_counts_stays_on_disk(tmp_path: Path) -> None:
    aggregator = Aggregator(accepts=True)
    life = Life(tmp_path)
    for number in range(1, 4):
        life.put_in(number)
        assert sorted(file.name.split("-")[0] for file in tmp_path.iterdir()) == [
            "device.json",
            "outbox",
            "residual",
        ]
        life.settle(aggregator)
        assert sorted(file.name.split("-")[0] for file in tmp_path.iterdir()) == [
            "device.json",
            "residual",
        ]


def test_a_residual_that_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.put_in(1)
    [file] = tmp_path.glob("residual-*")
    written = file.stat().st_mtime_ns
    life.settle(Aggregator(accepts=True))
    Life(tmp_path).keeper.commit(None, None)
    assert [file] == list(tmp_path.glob("residual-*"))
    assert file.stat().st_mtime_ns == written


def test_a_damaged_outbox_is_set_aside_and_said(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.put_in(1)
    [file] = tmp_path.glob("outbox-*")
    file.write_bytes(file.read_bytes()[:-1])
    with capture_logs() as logs:
        again = Life(tmp_path)
    assert again.keeper.parcel is None
    [said] = [entry for entry in logs if entry["event"] == "outbox_set_aside"]
    assert str(file) in said["problem"]
    assert Path(said["kept_as"]).is_file()
    again.put_in(2)  # and on it goes
    assert Path(said["kept_as"]).is_file()


def test_an_outbox_that_is_gone_or_anothers_is_not_pushed(tmp_path: Path) -> None:
    Life(tmp_path).put_in(1)
    assert Life(tmp_path, name="d2").keeper.parcel is None
    Life(tmp_path).put_in(2)
    [file] = tmp_path.glob("outbox-*.update")
    file.unlink()
    assert Life(tmp_path).keeper.parcel is None


def test_what_belongs_to_another_task_is_forgotten(tmp_path: Path) -> None:
    Life(tmp_path).put_in(1)
    other = Life(tmp_path, task="cifar 4567")
    assert other.keeper.parcel is None
    assert other.trainer.residual is None
    assert other.keeper.state.participant is None
    assert [file.name for file in tmp_path.iterdir()] == ["device.json"]


def test_a_residual_that_was_deleted_begins_at_nothing(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.put_in(1)
    life.settle(Aggregator(accepts=True))
    [file] = tmp_path.glob("residual-*")
    file.unlink()
    with capture_logs() as logs:
        again = Life(tmp_path)
    assert again.trainer.residual is None
    assert [entry["event"] for entry in logs] == ["residual_missing"]
    assert Life(tmp_path).keeper.state.residual == 0
