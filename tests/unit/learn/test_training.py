"""Local training: mini-batches, submodels, merging and evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.small_nets import NormNet, PlainNet, shake
from torch import Tensor, nn

from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.errors import InvalidRequest, NotFinite, ShapeMismatch
from hocket.learn.flat import flatten, load, manifest_of
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import plan_of
from hocket.learn.submodels.step import BatchLoss
from hocket.learn.training import LocalTrainer, TrainingRules, evaluate

RULES = TrainingRules(local_epochs=2, batch_size=8, learning_rate=0.02, momentum=0.9)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stripes(n: int = 64, size: int = 8, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Images with a bright row at a place that tells the class, and noise."""
    labels = torch.randint(4, (n,), generator=seeded(5))
    inputs = 0.3 * torch.randn((n, channels, size, size), generator=seeded(6))
    inputs[torch.arange(n), :, labels] += 1.0
    return inputs, labels


def train(
    trainer: LocalTrainer, epochs: int, dropout: tuple[float, ...] | None, seed: int = 0
) -> list[BatchLoss]:
    generator = seeded(seed)
    return [
        trainer.step(indices, dropout, generator)
        for _ in range(epochs)
        for indices in trainer.epoch_batches(generator)
    ]


def small_net() -> PlainNet:
    net = PlainNet((6, 8, 10), maps=8, classes=4)
    for seed, parameter in enumerate(net.parameters()):
        nn.init.normal_(parameter, std=0.1, generator=seeded(seed))
        if parameter.dim() == 4:
            nn.init.kaiming_normal_(parameter, generator=seeded(seed))
    return net


@pytest.mark.parametrize("dropout", [None, (0.4, 0.4, 0.4)])
def test_it_learns_with_and_without_dropout(dropout: tuple[float, ...] | None) -> None:
    net, (inputs, labels) = small_net(), stripes()
    rules = replace(RULES, rescale=False)  # a net of six filters finds inverted dropout too noisy
    trainer = LocalTrainer(net, rules, inputs, labels, graph=channel_graph(net))
    trainer.start(flatten(net))
    before = trainer.loss()
    train(trainer, 20, dropout)
    assert trainer.loss() < before / 3
    assert evaluate(net, trainer.weights(), inputs, labels)[1] > 0.9


def test_training_is_a_function_of_its_seed() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 4)
    )
    start = flatten(net)
    results = []
    for seed, disturbance in ((1, 10), (1, 20), (2, 10)):
        trainer = LocalTrainer(net, RULES, *stripes(), graph=channel_graph(net))
        trainer.start(start)
        torch.manual_seed(disturbance)  # the model's own dropout asks the global generator
        untouched = torch.get_rng_state()
        train(trainer, 1, (0.5,), seed)
        assert torch.equal(torch.get_rng_state(), untouched)
        results.append(trainer.weights())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_dropout_of_nothing_is_no_dropout() -> None:
    net = small_net()
    results = []
    for dropout in (None, (0.0, 0.0, 0.0)):
        trainer = LocalTrainer(net, RULES, *stripes(), graph=channel_graph(net))
        trainer.start(flatten(net))
        losses = train(trainer, 2, dropout)
        results.append((losses, trainer.weights()))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("rescale", [False, True])
def test_a_submodel_trains_as_a_net_of_its_size_would(rescale: bool) -> None:
    net = small_net()
    plan = plan_of(channel_graph(net), SubmodelSpec((0.5,), ChannelRule.RANDOM, 4))
    inputs, labels = stripes()
    trainer = LocalTrainer(
        net, replace(RULES, rescale=rescale), inputs, labels, plan=plan, probe_examples=1000
    )
    trainer.start(plan.extract(flatten(net)))
    little = PlainNet((3, 4, 5), maps=8, classes=4)
    load(little, plan.extract(flatten(net)))
    if rescale:  # HeteroFL's scaler, by hand: outputs before the activation, divided by the rate
        for conv in (little.conv1, little.conv2, little.conv3):
            conv.register_forward_hook(lambda _module, _inputs, output: output / 0.5)
    assert trainer.manifest == manifest_of(little)
    sgd = torch.optim.SGD(little.parameters(), lr=0.02, momentum=0.9)
    generator = seeded(9)
    for indices in trainer.epoch_batches(generator):
        trainer.step(indices, None, generator)
        sgd.zero_grad()
        torch.autograd.backward(F.cross_entropy(little(inputs[indices]), labels[indices]))
        sgd.step()
    if rescale:
        torch.testing.assert_close(trainer.weights(), flatten(little))
    else:
        assert torch.equal(trainer.weights(), flatten(little))
    assert trainer.loss() == pytest.approx(
        evaluate(little, flatten(little), inputs, labels)[0], rel=1e-4
    )


def test_dropout_composes_with_a_submodel() -> None:
    net = NormNet()
    plan = plan_of(channel_graph(net), SubmodelSpec((0.6,), ChannelRule.RANDOM, 4))
    assert plan.sizes == (4, 6)
    trainer = LocalTrainer(net, replace(RULES, momentum=0.0), *stripes(channels=1), plan=plan)
    start = plan.extract(flatten(net))
    trainer.start(start)
    trainer.step(torch.arange(8), (0.5, 0.5), seeded())
    moved = trainer.weights() != start
    # 2 of 4 and 3 of 6 filters: conv 2*9, norm 2*2, conv 3*2*9 + 3, norm 2*3, head 4*3 + 4, and
    # running mean and variance of each kept channel. A bias before batch norm has no gradient
    # but for rounding, so its three entries may stay.
    everything = 18 + 4 + 54 + 3 + 6 + 16 + 10
    assert everything - 3 - 2 <= int(moved.sum()) <= everything


def test_an_epoch_is_every_example_once_in_a_drawn_order() -> None:
    inputs, labels = stripes(n=26)
    trainer = LocalTrainer(small_net(), RULES, inputs, labels)
    first, second = (trainer.epoch_batches(seeded(seed)) for seed in (1, 2))
    assert [len(indices) for indices in first] == [8, 8, 8, 2]
    assert torch.cat(first).sort().values.tolist() == list(range(26))
    assert not torch.cat(first).equal(torch.cat(second))


def test_a_last_single_example_joins_the_batch_before() -> None:
    inputs, labels = stripes(n=17)
    trainer = LocalTrainer(NormNet(), RULES, inputs, labels)
    assert [len(indices) for indices in trainer.epoch_batches(seeded())] == [8, 9]
    alone = LocalTrainer(NormNet(), replace(RULES, batch_size=1), inputs[:3], labels[:3])
    assert [len(indices) for indices in alone.epoch_batches(seeded())] == [1, 1, 1]


def softmax_regression(
    weights: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[float, np.ndarray]:
    """Mean loss and its gradient, in closed form and float64; weights are (W, b) laid out flat."""
    matrix, bias = weights[:12].reshape(3, 4), weights[12:]
    logits = x @ matrix.T + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    loss = -np.log(p[np.arange(len(y)), y]).mean()
    error = (p - np.eye(3)[y]) / len(y)
    return float(loss), np.concatenate([(error.T @ x).ravel(), error.sum(0)])


def test_merge_follows_the_closed_form() -> None:
    """FedASMU Eq. 7 and Eq. 9 on softmax regression, whose gradient is known."""
    net = nn.Linear(4, 3)
    inputs = torch.randn((8, 4), generator=seeded(1))
    labels = torch.randint(3, (8,), generator=seeded(2))
    local, fresh = (torch.randn(15, generator=seeded(seed)) for seed in (3, 4))
    trainer = LocalTrainer(net, replace(RULES, batch_size=8), inputs, labels)
    trainer.start(local)
    report = trainer.merge(fresh, 0.25)
    x, y = inputs.double().numpy(), labels.numpy()
    ours, theirs = local.double().numpy(), fresh.double().numpy()
    mixed = 0.75 * ours + 0.25 * theirs
    after, gradient = softmax_regression(mixed, x, y)
    assert trainer.weights().tolist() == pytest.approx(mixed.tolist(), abs=1e-6)
    assert report.loss_before == pytest.approx(softmax_regression(ours, x, y)[0], rel=1e-5)
    assert report.loss_after == pytest.approx(after, rel=1e-5)
    assert report.inner_product == pytest.approx(float(gradient @ (theirs - ours)), rel=1e-4)
    # And B is the slope of the loss along the way from local to fresh.
    slope = (
        softmax_regression(mixed + 1e-6 * (theirs - ours), x, y)[0]
        - softmax_regression(mixed - 1e-6 * (theirs - ours), x, y)[0]
    ) / 2e-6
    assert report.inner_product == pytest.approx(slope, rel=1e-4)


def test_merging_nothing_and_everything() -> None:
    net = NormNet()
    local = flatten(net)
    shake(net)
    fresh = flatten(net)
    trainer = LocalTrainer(net, RULES, *stripes(channels=1))
    trainer.start(local)
    report = trainer.merge(fresh, 0.0)
    assert torch.equal(trainer.weights(), local)
    assert report.loss_before == report.loss_after
    trainer.merge(fresh, 1.0)
    assert torch.equal(trainer.weights(), fresh)


def test_loss_judges_the_same_few_examples_each_time() -> None:
    net, (inputs, labels) = small_net(), stripes()
    few = LocalTrainer(net, RULES, inputs, labels, probe_examples=5)
    few.start(flatten(net))
    assert few.loss() == few.loss()
    everything, _ = evaluate(net, flatten(net), inputs, labels)
    assert few.loss() != everything
    many = LocalTrainer(net, RULES, inputs, labels, probe_examples=64)
    many.start(flatten(net))
    assert many.loss() == pytest.approx(everything, rel=1e-5)


def test_evaluate_counts_each_example_once_whatever_the_batch() -> None:
    net, (inputs, labels) = small_net(), stripes(n=10)
    load(net, flatten(net) * 3)
    with torch.no_grad():
        logits = net(inputs)
    right = sum(int(row.argmax()) == int(y) for row, y in zip(logits, labels, strict=True)) / 10
    for batch_size in (1, 3, 10, 512):
        loss, accuracy = evaluate(net, flatten(net), inputs, labels, batch_size)
        assert loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
        assert accuracy == right


def test_how_images_lie_in_memory_changes_no_more_than_rounding() -> None:
    net, (inputs, labels) = small_net(), stripes()
    after = []
    for layout in (torch.contiguous_format, torch.channels_last):
        laid_out = inputs.contiguous(memory_format=layout)
        trainer = LocalTrainer(
            net, RULES, laid_out, labels, graph=channel_graph(net), probe_examples=1000
        )
        trainer.start(flatten(net))
        train(trainer, 2, (0.4, 0.4, 0.4))
        after.append(trainer.weights())
        assert trainer.loss() == pytest.approx(evaluate(net, after[0], inputs, labels)[0], abs=1e-4)
    assert torch.allclose(after[0], after[1], atol=1e-5)


def test_start_copies_and_resets_momentum() -> None:
    net = small_net()
    start = flatten(net)
    kept = start.clone()
    trainer = LocalTrainer(net, RULES, *stripes())
    ends = []
    for _ in range(2):
        trainer.start(start)
        train(trainer, 1, None)
        ends.append(trainer.weights())
    assert torch.equal(start, kept)
    assert torch.equal(ends[0], ends[1])


def test_too_large_a_learning_rate_is_named() -> None:
    net = small_net()
    wild = TrainingRules(local_epochs=1, batch_size=8, learning_rate=1e12)
    trainer = LocalTrainer(net, wild, *stripes())
    trainer.start(flatten(net))
    with pytest.raises(NotFinite, match="lower the learning rate"):
        train(trainer, 5, None)


def test_what_does_not_fit_is_refused() -> None:
    net, (inputs, labels) = small_net(), stripes()
    trainer = LocalTrainer(net, RULES, inputs, labels)
    with pytest.raises(ShapeMismatch):
        trainer.start(torch.zeros(3))
    with pytest.raises(ShapeMismatch):
        trainer.merge(torch.zeros(3), 0.5)
    with pytest.raises(InvalidRequest, match=r"beta is 1\.5"):
        trainer.merge(flatten(net), 1.5)
    with pytest.raises(InvalidRequest, match="dropout vector of 1 shares; the model has 0"):
        trainer.step(torch.arange(4), (0.5,), seeded())
    with pytest.raises(InvalidRequest, match="int64"):
        LocalTrainer(net, RULES, inputs, labels.int())
    with pytest.raises(InvalidRequest, match="0 examples"):
        LocalTrainer(net, RULES, inputs[:0], labels[:0])
    with pytest.raises(InvalidRequest, match="no examples"):
        evaluate(net, flatten(net), inputs[:0], labels[:0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("local_epochs", 0),
        ("local_epochs", 10**20),
        ("batch_size", 0),
        ("batch_size", 10**20),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("gradient_clip_norm", 0.0),
    ],
)
def test_rules_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match=field):
        replace(RULES, **{field: value})  # type: ignore[arg-type] # one field of either type
