"""Whose rows make the scores: found in a model, or refused with the node's name."""

from __future__ import annotations

import pytest
import torch
from support.learners import Folded
from support.small_nets import NormNet, PlainNet, ResNet, headless
from torch import Tensor, nn

from hocket.errors import InvalidUpdate, ModelError
from hocket.learn.flat import flatten, manifest_of, views
from hocket.learn.models import digits_cnn
from hocket.learn.submodels.head import Head, head_of


@pytest.mark.parametrize(
    ("net", "head"),
    [
        (PlainNet(), Head(("head.weight", "head.bias"), 10)),
        (NormNet(), Head(("head.weight", "head.bias"), 4)),
        (ResNet((4, 6), classes=7), Head(("head.weight", "head.bias"), 7)),
        (digits_cnn(), Head(("8.weight", "8.bias"), 10)),
        (nn.Sequential(nn.Linear(3, 5, bias=False), nn.Identity()), Head(("0.weight",), 5)),
    ],
    ids=["plain", "norm", "residual", "digits", "without bias"],
)
def test_the_last_layer_is_found(net: nn.Module, head: Head) -> None:
    assert head_of(net) == head


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.relu(self.first(x)))
        return scores


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layer(torch.relu(self.layer(x)))
        return scores


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (headless(), "node '_3' .*is no torch.nn.Linear"),
        (nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)), "node '_1' .*is no torch.nn.Linear"),
        (Tied(), "node 'last' .*used elsewhere"),
        (Twice(), "node 'layer_1' .*used elsewhere"),
        (Folded(), "cannot be traced"),
    ],
    ids=["no linear layer", "log softmax", "tied", "twice", "untraceable"],
)
def test_a_model_without_rows_of_its_own_is_refused(net: nn.Module, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        head_of(net)
    assert 'masked_loss = "off"' in caught.value.message


@pytest.mark.parametrize("labels", [(0,), (2, 7), tuple(range(10))])
def test_classes_of_the_model_pass(labels: tuple[int, ...]) -> None:
    head_of(digits_cnn()).check(labels)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ((), "labels is empty"),
        ((7, 2), "ascend"),
        ((2, 2), "each class once"),
        ((2, 10), "holds 10; the model's classes are 0 to 9"),
        ((-1, 2), "holds -1"),
    ],
)
def test_other_classes_are_refused(labels: tuple[int, ...], says: str) -> None:
    with pytest.raises(InvalidUpdate, match=says):
        head_of(digits_cnn()).check(labels)


def test_rows_of_other_classes_are_cleared_and_nothing_else() -> None:
    net = digits_cnn()
    manifest = manifest_of(net)
    before, after = flatten(net), flatten(net)
    head_of(net).clear_others(after, (2, 7), manifest)
    old, new = views(before, manifest), views(after, manifest)
    for name, values in new.items():
        if name in ("8.weight", "8.bias"):
            assert torch.equal(values[[2, 7]], old[name][[2, 7]])
            assert not values[[0, 1, 3, 4, 5, 6, 8, 9]].any()
        else:
            assert torch.equal(values, old[name])
