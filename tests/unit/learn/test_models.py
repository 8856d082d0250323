"""Reference models: sizes from the literature, shapes, and that they learn."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import fx, nn

from hocket.learn.data import Digits, load
from hocket.learn.models import cifar_cnn, digits_cnn, lenet5, mlp
from hocket.learn.reference import build_model


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_cifar_cnn_has_the_size_of_the_published_one() -> None:
    """feddumap.md 2.6: 122,570 parameters for ten classes, 128,420 for a hundred."""
    assert size(cifar_cnn()) == 122_570
    assert size(cifar_cnn(classes=100)) == 128_420


def test_lenet5_has_the_size_of_lenet5_on_one_channel() -> None:
    """feddumap.md 2.6 has 62,006 on three channels; two channels of six 5x5 filters are 300."""
    assert size(lenet5()) == 62_006 - 300


def test_the_digits_cnn_stays_small() -> None:
    assert 10_000 <= size(digits_cnn()) <= 40_000


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (digits_cnn(7), (1, 8, 8)),
        (lenet5(7), (1, 28, 28)),
        (cifar_cnn(7), (3, 32, 32)),
        (mlp(12, 7, hidden=(5, 4)), (12,)),
        (mlp(12, 7, hidden=()), (3, 2, 2)),
    ],
    ids=["digits_cnn", "lenet5", "cifar_cnn", "mlp", "linear"],
)
def test_a_model_gives_a_score_per_class_and_can_be_traced(
    model: nn.Module, shape: tuple[int, ...]
) -> None:
    inputs = torch.randn(2, *shape)
    assert model(inputs).shape == (2, 7)
    assert torch.equal(fx.symbolic_trace(model)(inputs), model(inputs))
    assert not list(model.buffers())


def test_the_cifar_cnn_starts_as_the_published_one() -> None:
    """feddumap.md 2.6: convolutions N(0, sqrt(2 / (k k out))), no bias."""
    model = build_model("hocket.learn.models:cifar_cnn", seed=5)
    last = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)][-1]
    assert last.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
    assert last.bias is not None
    assert not last.bias.any()


def test_the_digits_cnn_learns_the_digits_in_a_few_epochs() -> None:
    model = build_model("hocket.learn.models:digits_cnn", seed=1)
    train, test = load(Digits(), "train", seed=1), load(Digits(), "test", seed=1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    chance = torch.Generator().manual_seed(1)
    for _ in range(5):
        for batch in torch.split(torch.randperm(len(train), generator=chance), 16):
            some = train.take(batch)
            optimiser.zero_grad()
            torch.autograd.backward([F.cross_entropy(model(some.inputs), some.labels)])
            optimiser.step()
    right = model(test.inputs).argmax(dim=1) == test.labels
    assert right.float().mean().item() > 0.97
