"""Static batch norm against torch's own layer: in training, in evaluation, and in the pass."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from support.normed_net import normed
from support.small_nets import NormNet, PlainNet, shake
from torch import Tensor, nn

from hocket.errors import InvalidRequest
from hocket.learn.flat import flatten, manifest_of, views
from hocket.learn.norms import statistics_of, use_batch_statistics, with_statistics
from hocket.learn.sgd import TrainingRules
from hocket.learn.training import LocalTrainer, evaluate

RULES = TrainingRules(1, 8, learning_rate=0.1, norm="static")


def inputs(count: int = 24, seed: int = 3) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def labels(count: int = 24, classes: int = 4) -> Tensor:
    return torch.arange(count) % classes


def shaken() -> nn.Module:
    net = NormNet()
    shake(net)
    return net


def test_running_statistics_are_found_by_name() -> None:
    net = normed()
    found = {f"{at}.running_{part}" for at in (1, 5) for part in ("mean", "var")}
    assert statistics_of(net, manifest_of(net)) == found
    plain = PlainNet((4, 6, 5), maps=8)
    assert statistics_of(plain, manifest_of(plain)) == frozenset()
    assert statistics_of(nn.BatchNorm1d(3), manifest_of(nn.BatchNorm1d(3))) == {
        "running_mean",
        "running_var",
    }


def test_evaluation_takes_the_batchs_statistics_and_dropout_is_still_off() -> None:
    net, plain = normed(), normed()
    net.load_state_dict(plain.state_dict())
    use_batch_statistics(net)
    some = inputs()
    before = flatten(net)
    plain.train()
    plain[9].eval()  # its dropout
    net.eval()
    assert torch.equal(net(some), plain(some))
    assert torch.equal(flatten(net), before)
    assert not torch.equal(flatten(plain), before)  # torch's own layer keeps what it saw


def test_one_value_of_a_channel_has_no_statistics() -> None:
    linear, norm = nn.Linear(5, 3), nn.BatchNorm1d(3)
    net = nn.Sequential(linear, norm).eval()
    use_batch_statistics(net)
    one = torch.randn(1, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(net(one), linear(one) / (1 + norm.eps) ** 0.5)


def test_a_last_example_alone_is_judged_behind_a_batch_of_many() -> None:
    linear, norm = nn.Linear(5, 3), nn.BatchNorm1d(3)
    net = nn.Sequential(linear, norm)
    use_batch_statistics(net)
    some = torch.randn(9, 5, generator=torch.Generator().manual_seed(1))
    classes = torch.arange(9) % 3
    several, _ = evaluate(net, flatten(net), some[:8], classes[:8])
    alone, _ = evaluate(net, flatten(net), some[8:], classes[8:])
    loss, _ = evaluate(net, flatten(net), some, classes, batch_size=8)
    assert loss == pytest.approx((8 * several + alone) / 9)


def test_a_copy_takes_the_batchs_statistics_too() -> None:
    net = shaken()
    use_batch_statistics(net)
    there = deepcopy(net).eval()
    net.eval()
    assert torch.equal(there(inputs()), net(inputs()))


def test_a_training_moves_no_statistics_and_all_else_as_ever() -> None:
    """A step in training mode takes the batch's statistics with and without running ones."""
    kept, moving = shaken(), shaken()
    use_batch_statistics(kept)
    ends = []
    for net in (kept, moving):
        trainer = LocalTrainer(net, RULES, inputs(), labels())
        trainer.start(flatten(net))
        trainer.step(torch.arange(8), None, torch.Generator().manual_seed(1))
        ends.append(views(trainer.weights(), trainer.manifest))
    fixed = statistics_of(kept, manifest_of(kept))
    start = views(flatten(kept), manifest_of(kept))
    for name, values in ends[0].items():
        assert torch.equal(values, start[name] if name in fixed else ends[1][name])
        assert torch.equal(values, ends[1][name]) == (name not in fixed)


def test_a_device_judges_its_model_by_batch_statistics() -> None:
    net, plain = shaken(), shaken()
    use_batch_statistics(net)
    trainer = LocalTrainer(net, RULES, inputs(), labels())
    trainer.start(flatten(net))
    plain.train()
    expected = nn.functional.cross_entropy(plain(inputs()), labels())
    assert trainer.loss() == pytest.approx(float(expected.detach()), rel=1e-5)
    assert torch.equal(trainer.weights(), flatten(net))


@pytest.mark.parametrize("count", [2, 100, 101, 250])
def test_the_pass_collects_what_torchs_cumulative_average_does(count: int) -> None:
    """In near-equal batches of at most 100, so none is a single example."""
    net, some = shaken(), inputs(count)
    vector = flatten(net)
    before = vector.clone()
    judged = with_statistics(net, vector, some, manifest_of(net))
    other = shaken()
    layers = [layer for layer in other.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(layers) == 2
    for layer in layers:
        layer.momentum = None
        layer.reset_running_stats()
    other.train()
    for batch in torch.tensor_split(some, {2: 1, 100: 1, 101: 2, 250: 3}[count]):
        assert 1 < len(batch) <= 100
        other(batch)
    assert torch.equal(judged, flatten(other))
    assert torch.equal(vector, before)
    assert torch.equal(with_statistics(net, vector, some, manifest_of(net)), judged)


def test_dropout_draws_nothing_in_the_pass() -> None:
    net = normed()
    vector, manifest = flatten(net), manifest_of(net)
    first = with_statistics(net, vector, inputs(), manifest)
    torch.rand(7)
    assert torch.equal(with_statistics(net, vector, inputs(), manifest), first)


def test_fewer_than_two_examples_are_refused() -> None:
    net = shaken()
    with pytest.raises(InvalidRequest, match="at least two"):
        with_statistics(net, flatten(net), inputs(1), manifest_of(net))


def test_with_collected_statistics_a_model_is_judged_as_it_was_trained() -> None:
    """On the very examples of the pass, one batch; torch collects the unbiased variance."""
    net, plain = shaken(), shaken()
    some = inputs() * 4 + 2
    plain.train()
    expected = float(nn.functional.cross_entropy(plain(some), labels()).detach())
    judged = with_statistics(net, flatten(net), some, manifest_of(net))
    loss, _ = evaluate(net, judged, some, labels())
    blind, _ = evaluate(net, flatten(net), some, labels())
    assert loss == pytest.approx(expected, abs=1e-3)
    assert abs(blind - expected) > 5e-3
