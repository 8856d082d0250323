from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hocket_device.learner import Interrupted
from hocket_device.pace import Pace
from hocket_device.resources import Resources
from hocket_device.throttle import DutyCycle
from hocket_device.trainer import Trainer
from support.small_nets import ResNet
from torch import Tensor, nn

from hocket.core.manifest import Manifest
from hocket.core.payload import CodecId, Payload
from hocket.core.refresh import RefreshRules
from hocket.core.terms import EncodingTerms, RefreshTerms, TaskTerms, TrainingTerms
from hocket.errors import InvalidRequest, ModelError, NotFinite, ShapeMismatch
from hocket.learn.codecs import Raw
from hocket.learn.codecs.payload import decode_payload, encode_payload
from hocket.learn.data import Examples
from hocket.learn.flat import flatten, manifest_of
from hocket.learn.models import digits_cnn

EXAMPLES = 40
TOP_K = EncodingTerms(CodecId.TOPK, topk_ratio=0.05)


def model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return digits_cnn()


def examples() -> Examples:
    chance = torch.Generator().manual_seed(5)
    labels = torch.randint(10, (EXAMPLES,), generator=chance)
    inputs = torch.rand(EXAMPLES, 1, 8, 8, generator=chance)
    return Examples(inputs, labels)


def terms(net: nn.Module | None = None) -> TaskTerms:
    return TaskTerms(
        name="test",
        manifest=manifest_of(net or model()),
        training=TrainingTerms(local_epochs=2, batch_size=16, learning_rate=0.1),
        encoding=EncodingTerms(CodecId.RAW),
        refresh=RefreshTerms(enabled=True, rules=RefreshRules()),
        dropout_rows=((0.0,), (0.25,), (0.5,), (0.75, 0.5)),
        seed=1,
        max_update_bytes=1 << 20,
        chunk_bytes=1 << 19,
        staleness_limit=99,
    )


class Machine:
    """A thread whose work and rest take as long as the test says."""

    def __init__(self, share: float = 1.0) -> None:
        self.now_s = 0.0
        self.busy_s = 0.0
        self.stop = threading.Event()
        resources = Resources(lambda: share, lambda: float("inf"), lambda: 0)
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


def raw(vector: Tensor, manifest: Manifest) -> Payload:
    return encode_payload(vector, manifest, Raw(), torch.Generator(), pack=False)


def base() -> Payload:
    net = model()
    return raw(flatten(net), manifest_of(net))


def delta(payload: Payload) -> Tensor:
    return decode_payload(payload, manifest_of(model()))


def test_epochs_lower_the_loss_and_the_delta_is_what_they_changed() -> None:
    t = trainer()
    t.start(base(), 1)
    results = [t.train_epoch(epoch) for epoch in range(1, 6)]
    assert results[-1].mean_loss < results[0].mean_loss
    assert [result.steps for result in results] == [3] * 5  # 40 examples in batches of 16
    vector = flatten(model()) + delta(t.encode())
    again = trainer()
    again.start(raw(vector, manifest_of(model())), 2)
    assert again.train_epoch(1).mean_loss < results[0].mean_loss


def test_an_untrained_model_has_no_delta() -> None:
    t = trainer()
    t.start(base(), 1)
    assert not delta(t.encode()).any()


@pytest.mark.parametrize(
    ("share", "cost"),
    # digits_cnn, keep k1 and k2 of 16 and 32 filters: 64*9*k1 + 64*9*k1*k2 + 16*k2*64 + 640 MACs
    [(1.0, 1.0), (0.7, 0.58665), (0.5, 0.28252), (0.01, 0.16648)],
)
def test_each_mini_batch_takes_the_dearest_row_that_the_device_can_afford(
    share: float, cost: float
) -> None:
    machine = Machine(share)
    machine.pace.resources.observe(busy_s=share, wall_s=1.0)
    t = trainer(machine)
    t.start(base(), 1)
    assert list(t.train_epoch(1).rows) == [pytest.approx(cost, abs=1e-5)]


def test_a_mini_batch_trains_the_filters_that_its_row_keeps_and_no_others() -> None:
    told = replace(terms(), dropout_rows=((0.75,),))
    t = trainer(told=replace(told, training=replace(told.training, batch_size=EXAMPLES)))
    t.start(base(), 1)
    assert t.train_epoch(1).steps == 1
    first = manifest_of(model()).tensors[0]
    moved = delta(t.encode())[: first.size].view(first.shape)
    assert int(moved.flatten(1).any(dim=1).sum()) == 4  # of 16 filters


def test_without_rows_nothing_is_dropped_however_slow_the_device() -> None:
    t = trainer(Machine(0.01), replace(terms(), dropout_rows=()))
    t.start(base(), 1)
    assert dict(t.train_epoch(1).rows) == {1.0: 3}


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


def test_the_probe_survives_a_learning_rate_at_which_repeated_steps_diverge() -> None:
    told = replace(terms(), training=TrainingTerms(2, 16, learning_rate=1e4))
    assert len(trainer(told=told).probe()) == 3


def test_a_merge_moves_the_model_by_its_weight() -> None:
    t = trainer()
    t.start(base(), 1)
    fresh = flatten(model(seed=7))
    report = t.merge(raw(fresh, manifest_of(model())), 0.25)
    assert report.loss_before != report.loss_after
    expected = 0.25 * (fresh - flatten(model()))
    assert torch.allclose(delta(t.encode()), expected, atol=1e-6)


def test_a_refused_update_is_part_of_the_next_one() -> None:
    t = trainer(told=replace(terms(), encoding=TOP_K))
    t.start(base(), 1)
    t.train_epoch(1)
    first = delta(t.encode())
    assert t.feedback.residual is not None
    left_out = t.feedback.residual.clone()
    t.put_back()
    assert torch.allclose(t.feedback.residual, left_out + first)
    t.forget()
    assert t.feedback.residual is None


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


def test_a_narrow_trainer_takes_exactly_its_submodel() -> None:
    t = trainer(keep=0.5)
    assert t.spec.keep == (0.5,)
    with pytest.raises(ShapeMismatch):
        t.start(base(), 1)


def test_a_stop_ends_training_at_the_next_mini_batch() -> None:
    machine = Machine()
    t = trainer(machine)
    t.start(base(), 1)
    machine.stop.set()
    with pytest.raises(Interrupted):
        t.train_epoch(1)


def test_a_model_that_diverges_is_a_typed_error() -> None:
    training = TrainingTerms(local_epochs=2, batch_size=16, learning_rate=1e30)
    t = trainer(told=replace(terms(), training=training))
    t.start(base(), 1)
    with pytest.raises(NotFinite, match="learning rate"):
        t.train_epoch(1)


def test_another_model_than_the_aggregators_is_refused_with_both_digests() -> None:
    other = ResNet((4, 8))
    with pytest.raises(ModelError, match=manifest_of(other).digest) as caught:
        trainer(told=terms(other))
    assert manifest_of(model()).digest in caught.value.message


def test_a_dropout_row_of_wrong_length_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="3 shares"):
        trainer(told=replace(terms(), dropout_rows=((0.1, 0.2, 0.3),)))


class Folded(nn.Module):
    """A forward pass that asks a value of its data cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(x.flatten(1))
        return scores * 2 if float(scores.detach().sum()) > 0 else scores


def test_a_model_that_cannot_be_sliced_trains_whole_or_not_at_all() -> None:
    net = Folded()
    t = Trainer(net, examples(), terms(net), Machine().pace)
    t.start(raw(flatten(net), manifest_of(net)), 1)
    assert dict(t.train_epoch(1).rows) == {1.0: 3}
    assert [line.keep for line in t.probe()] == [1.0]
    with pytest.raises(ModelError, match="full width"):
        Trainer(net, examples(), terms(net), Machine().pace, keep=0.5)
