from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hocket_device import trainer as trainer_module
from hocket_device.effort import PacedEffort
from hocket_device.learner import Interrupted
from hocket_device.pace import Pace
from hocket_device.probe import Probe
from hocket_device.resources import Resources
from hocket_device.throttle import DutyCycle
from hocket_device.trainer import Trainer
from support.learners import TOP_K, Folded, Ledger, base, delta, examples, model, raw, terms
from support.small_nets import ResNet
from torch import nn

from hocket.core.sizing import Distreal, Fjord, Whale, terms_of
from hocket.core.sizing.size import Dropping, Size, part_of
from hocket.core.terms import TaskTerms, TrainingTerms
from hocket.errors import ModelError, TaskError
from hocket.learn.blueprint import Blueprint
from hocket.learn.data import Examples
from hocket.learn.flat import flatten
from hocket.learn.local_learner import LocalLearner
from hocket.learn.strategies import Moon


class Machine:
    """A thread whose work and rest take as long as the test says."""

    def __init__(self, share: float = 1.0, memory_bytes: int = 0) -> None:
        self.now_s = 0.0
        self.busy_s = 0.0
        self.stop = threading.Event()
        resources = Resources(lambda: share, lambda: float("inf"), lambda: memory_bytes)
        duty = DutyCycle(lambda: share, self._sleep, self._tick)
        self.pace = Pace(duty, resources, self.stop, self._now, self._tick)

    def _now(self) -> float:
        return self.now_s

    def _tick(self) -> float:
        """Each look at the processor's clock costs a millisecond of it."""
        self.busy_s += 0.001
        self.now_s += 0.001
        return self.busy_s

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds


def trainer(
    machine: Machine | None = None, told: TaskTerms | None = None, keep: float = 1.0
) -> Trainer:
    machine = machine or Machine()
    return Trainer(model(), examples(), told or terms(), machine.pace, keep=keep, name="d1")


def test_the_measured_share_of_the_processor_decides_which_row_is_affordable() -> None:
    machine = Machine(0.5)
    machine.pace.resources.observe(busy_s=0.5, wall_s=1.0)
    t = trainer(machine)
    t.start(base(), 1)
    assert list(t.train_epoch(1).rows) == [pytest.approx(0.28252, abs=1e-5)]


def test_the_memory_that_is_left_decides_too() -> None:
    """A step takes a million bytes; rows keep all, three quarters, a half and a quarter of them."""
    rows = {}
    for left_bytes in (0, 10**6, 800_000, 499_999, 1):
        machine = Machine(memory_bytes=left_bytes)
        effort = PacedEffort(machine.pace, step_bytes=10**6)
        one = LocalLearner(Blueprint.of(model(), terms()), examples(), effort, name="d1")
        one.start(base(), 1)
        rows[left_bytes] = max(one.train_epoch(1).rows)
    assert rows[0] == rows[10**6] == 1.0  # not told, or enough
    assert 1.0 > rows[800_000] > rows[499_999] >= rows[1] > 0.0


def test_memory_is_read_once_a_second() -> None:
    left = iter((500_000, 250_000))
    machine = Machine()
    resources = Resources(lambda: 1.0, lambda: 1.0, lambda: next(left))
    effort = PacedEffort(replace(machine.pace, resources=resources), step_bytes=10**6)
    assert [effort.memory() for _ in range(3)] == [0.5] * 3
    machine.now_s += 1.0
    assert effort.memory() == 0.25


def test_each_mini_batch_is_followed_by_its_rest() -> None:
    seconds = {}
    for share in (1.0, 0.25):
        machine = Machine(share)
        t = trainer(machine)
        t.start(base(), 1)
        seconds[share] = t.train_epoch(1).seconds
        assert machine.pace.resources.share() <= share
    # at a quarter of the processor, three mini-batches of a millisecond each rest for three
    assert seconds[0.25] - seconds[1.0] == pytest.approx(3 * 0.003)


def test_the_probe_times_real_steps_at_each_width() -> None:
    lines = trainer().probe()
    assert [line.keep for line in lines] == [1.0, 0.5, 0.25]
    assert all(line.step_s(16) > 0.0 for line in lines)


def test_the_probe_measures_the_widths_that_the_rule_chooses_among() -> None:
    told = replace(terms(), sizing=terms_of(Fjord()), dropout_rows=())
    assert [line.keep for line in trainer(told=told).probe()] == [1.0, 0.8, 0.6, 0.4, 0.2]
    short = trainer(told=told).probe(Probe((1.0, 0.5), repetitions=1))
    assert [line.keep for line in short] == [1.0, 0.5]


def test_the_probe_survives_a_learning_rate_at_which_repeated_steps_diverge() -> None:
    told = replace(terms(), training=TrainingTerms(2, 16, learning_rate=1e4))
    assert len(trainer(told=told).probe()) == 3


def test_what_error_feedback_holds_survives_a_restart(tmp_path: Path) -> None:
    told = replace(terms(), encoding=TOP_K)
    t = trainer(told=told)
    t.start(base(), 1)
    t.train_epoch(1)
    t.encode()
    t.save(tmp_path / "residual")
    again = trainer(told=told)
    again.restore(tmp_path / "residual", None)
    assert again.residual is not None
    assert t.residual is not None
    assert torch.equal(again.residual, t.residual)
    again.start(base(), 2)
    t.start(base(), 2)
    assert torch.equal(delta(again.encode()), delta(t.encode()))


def test_a_stop_ends_training_at_the_next_mini_batch() -> None:
    machine = Machine()
    t = trainer(machine)
    t.start(base(), 1)
    machine.stop.set()
    with pytest.raises(Interrupted):
        t.train_epoch(1)


def test_a_model_that_cannot_be_sliced_is_probed_at_full_width() -> None:
    net = Folded()
    t = Trainer(net, examples(), terms(net), Machine().pace)
    assert [line.keep for line in t.probe()] == [1.0]
    with pytest.raises(ModelError, match="full width"):
        Trainer(net, examples(), terms(net), Machine().pace, keep=0.5)


def test_a_model_without_filters_is_trained_whole_or_not_at_all() -> None:
    """The plan of a sixteenth of it used to be all of it."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    told, pace = terms(net), Machine().pace
    with pytest.raises(ModelError, match=r"keeps a share of 0\.25 .*no part of this model can be"):
        Trainer(net, examples(), told, pace, keep=0.25)
    one = Trainer(net, examples(), told, pace)
    with pytest.raises(ModelError, match="no part of this model can be left out"):
        one.start(raw(flatten(net), told.manifest), 1, Size(part_of(0.0625)))
    one.start(raw(flatten(net), told.manifest), 1)
    assert dict(one.train_epoch(1).rows) == {1.0: 3}
    with pytest.raises(TaskError, match=r"submodel\.kind is 'whale'"):
        Trainer(net, examples(), replace(told, sizing=terms_of(Whale()), dropout_rows=()), pace)


def test_it_tells_the_rows_that_its_mini_batches_choose_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer_module, "peak_bytes_of", lambda _: 12_345)
    one = trainer(told=replace(terms(), sizing=terms_of(Distreal())))
    assert one.dropping.step_bytes == 0
    one.probe()
    dropping = one.dropping
    assert dropping.nothing == ""
    assert dropping.rows is not None
    assert dropping.rows.choose(0.5).cost == pytest.approx(0.28252, abs=1e-5)
    assert dropping.step_bytes == 12_345
    assert trainer(told=replace(terms(), dropout_rows=())).dropping == Dropping()  # another rule


def test_it_tells_why_its_mini_batches_do_without_nothing() -> None:
    def why(net: nn.Module, **fields: Any) -> str:
        told = replace(terms(net), sizing=terms_of(Distreal()), **fields)
        dropping = Trainer(net, examples(), told, Machine().pace).dropping
        assert dropping.rows is None
        assert dropping.nothing.isprintable()
        assert len(dropping.nothing) <= 120
        return dropping.nothing

    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert why(flat).startswith("it has no layer whose channels could be")
    assert "cannot be traced" in why(Folded())
    assert why(model(), dropout_rows=()) == "the task names no rows"
    moon = replace(terms().training, local=Moon().local)
    assert why(model(), dropout_rows=(), training=moon) == (
        "the local rule (contrastive) is meant for whole models"
    )


def test_images_lie_as_any_learner_has_them_and_train_to_the_same_bits() -> None:
    torch.manual_seed(3)
    net = ResNet((4, 8))
    told = replace(terms(net), dropout_rows=())
    data = Examples(torch.randn(20, 3, 8, 8), torch.arange(20) % 10)
    here = Trainer(net, data, told, Machine().pace, name="d1")
    plain = LocalLearner(Blueprint.of(net, told), data, Ledger(), name="d1")
    for one in (here, plain):
        assert one.examples.inputs.is_contiguous(memory_format=torch.channels_last)
        one.start_from(flatten(net), 1)
        one.train_epoch(1)
    assert here.encode().body == plain.encode().body
