"""Images lie in channels_last where the model takes them so, and nothing else changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from support.learners import Ledger, terms
from support.small_nets import ResNet
from torch import Tensor, nn

from hocket.core.terms import TaskTerms
from hocket.learn.blueprint import Blueprint
from hocket.learn.data import Examples
from hocket.learn.flat import flatten
from hocket.learn.layout import laid_out, layout_for
from hocket.learn.local_learner import LocalLearner
from hocket.learn.models import cifar_cnn, mlp
from hocket.learn.training import LocalTrainer, TrainingRules, evaluate

RULES = TrainingRules(local_epochs=2, batch_size=8, learning_rate=0.05, momentum=0.5)


class Viewed(nn.Module):
    """A convolution whose maps are joined by `view`, as many tutorials do it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 6 * 6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        scores: Tensor = self.head(x.view(len(x), -1))
        return scores


class ViewedInEvaluation(Viewed):
    """It takes channels_last as long as it trains."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x.contiguous()
        return super().forward(x)


def images(count: int = 24, channels: int = 3, side: int = 8) -> Examples:
    chance = torch.Generator().manual_seed(2)
    inputs = torch.randn(count, channels, side, side, generator=chance)
    return Examples(inputs, torch.arange(count) % 10)


def told(net: nn.Module) -> TaskTerms:
    return replace(terms(net), dropout_rows=())


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


@pytest.mark.parametrize(
    ("net", "shape", "layout"),
    [
        (cifar_cnn(), (3, 32, 32), torch.channels_last),
        (ResNet((4, 8)), (3, 8, 8), torch.channels_last),
        (ResNet((4, 8)), (2, 8, 8), torch.contiguous_format),  # the model does not take these
        (Viewed(), (3, 8, 8), torch.contiguous_format),
        (ViewedInEvaluation(), (3, 8, 8), torch.contiguous_format),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), (3, 8, 8), torch.contiguous_format),
        (nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten()), (1, 8, 8), torch.contiguous_format),
        (mlp(inputs=64, hidden=(8,), classes=10), (64,), torch.contiguous_format),
    ],
    ids=["cnn", "resnet", "misfit", "view", "view-in-evaluation", "flat", "grey", "features"],
)
def test_the_layout_is_what_the_model_takes(
    net: nn.Module, shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    assert layout_for(net, shape) is layout


@pytest.mark.parametrize("mode", [True, False])
def test_a_trial_leaves_no_trace(mode: bool) -> None:
    net = ResNet((4, 8)).train(mode)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    chance = torch.random.get_rng_state()
    layout_for(net, (3, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.training is mode
    assert torch.equal(torch.random.get_rng_state(), chance)


def test_examples_that_lie_right_are_not_copied() -> None:
    plain = images()
    turned = laid_out(plain, torch.channels_last)
    assert turned.inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(turned.inputs, plain.inputs)
    assert turned.labels is plain.labels
    assert laid_out(turned, torch.channels_last) is turned
    assert laid_out(plain, torch.contiguous_format) is plain
    assert laid_out(turned, torch.contiguous_format).inputs.is_contiguous()


def trained(net: nn.Module, data: Examples) -> Tensor:
    one = LocalTrainer(net, RULES, data.inputs, data.labels)
    one.start(flatten(net))
    for epoch in (1, 2):
        chance = torch.Generator().manual_seed(epoch)
        for batch in one.epoch_batches(chance):
            one.step(batch, None, chance)
    one.merge(flatten(net), 0.25)
    return one.weights()


def test_a_learner_trains_in_the_models_layout_to_the_same_model_but_for_rounding() -> None:
    net, plain = seeded(cifar_cnn), images(24, side=32)
    learner = LocalLearner(Blueprint.of(net, told(net)), plain, Ledger(), name="d1")
    turned = learner.examples
    assert turned.inputs.is_contiguous(memory_format=torch.channels_last)
    again = LocalLearner(learner.blueprint, turned, Ledger(), name="d2")
    assert again.examples is turned
    torch.testing.assert_close(trained(net, turned), trained(net, plain), rtol=0, atol=1e-5)


def test_a_model_that_views_trains_as_ever() -> None:
    net, data = seeded(Viewed), images()
    learner = LocalLearner(Blueprint.of(net, told(net)), data, Ledger(), name="d1")
    learner.start_from(flatten(net), 1)
    losses = [learner.train_epoch(epoch).mean_loss for epoch in range(1, 6)]
    assert losses[-1] < losses[0]
    assert learner.examples is data


def test_evaluation_agrees_in_both_layouts() -> None:
    net = seeded(cifar_cnn)
    data = images(40, side=32)
    turned = laid_out(data, layout_for(net, data.input_shape))
    assert not turned.inputs.is_contiguous()
    plain = evaluate(net, flatten(net), data.inputs, data.labels)
    assert evaluate(net, flatten(net), turned.inputs, turned.labels) == pytest.approx(
        plain, abs=1e-5
    )
    assert math.isfinite(plain[0])
