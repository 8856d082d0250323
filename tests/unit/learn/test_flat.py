"""A module as one vector."""

from __future__ import annotations

import pytest
import torch
from support.small_nets import NormNet, shake
from torch import nn

from hocket.errors import ModelError, ShapeMismatch
from hocket.learn.flat import flatten, load, manifest_of, views


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


def test_parameters_come_first_then_float_buffers_and_no_counters() -> None:
    tensors = manifest_of(NormNet(one=2, two=3)).tensors
    assert [(t.name, t.shape, t.trainable) for t in tensors] == [
        ("body.0.weight", (2, 1, 3, 3), True),
        ("body.1.weight", (2,), True),
        ("body.1.bias", (2,), True),
        ("body.3.weight", (3, 2, 3, 3), True),
        ("body.3.bias", (3,), True),
        ("body.4.weight", (3,), True),
        ("body.4.bias", (3,), True),
        ("head.weight", (4, 3), True),
        ("head.bias", (4,), True),
        ("body.1.running_mean", (2,), False),
        ("body.1.running_var", (2,), False),
        ("body.4.running_mean", (3,), False),
        ("body.4.running_var", (3,), False),
    ]


def test_a_vector_survives_the_way_into_another_module_and_back() -> None:
    one, other = NormNet(), NormNet()
    shake(one)
    load(other, flatten(one))
    assert torch.equal(flatten(other), flatten(one))
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_flatten_copies_and_views_do_not() -> None:
    net = NormNet()
    vector = flatten(net)
    views(vector, manifest_of(net))["head.bias"].fill_(7.0)
    assert int((vector == 7.0).sum()) == 4
    assert not bool((net.head.bias == 7.0).any())


def test_a_tied_parameter_is_held_once() -> None:
    assert [t.name for t in manifest_of(Tied()).tensors] == ["first.weight"]
    net = Tied()
    load(net, torch.arange(9.0))
    assert net.second.weight.flatten().tolist() == list(range(9))


def test_frozen_parameters_and_unsaved_buffers() -> None:
    net = nn.Linear(2, 2)
    net.bias.requires_grad = False
    net.register_buffer("scratch", torch.zeros(5), persistent=False)
    assert [(t.name, t.trainable) for t in manifest_of(net).tensors] == [
        ("weight", True),
        ("bias", False),
    ]


def test_only_float32_is_taken() -> None:
    with pytest.raises(ModelError, match=r"tensor 'weight' is torch.float64"):
        manifest_of(nn.Linear(2, 2, dtype=torch.float64))
    with pytest.raises(ModelError, match="no parameters"):
        manifest_of(nn.ReLU())


@pytest.mark.parametrize("shape", [(7,), (9,), (2, 4)])
def test_a_vector_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    net = nn.Linear(3, 2)
    with pytest.raises(ShapeMismatch, match="8 values"):
        load(net, torch.zeros(shape))
