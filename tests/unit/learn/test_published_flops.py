"""Operations and bytes of HeteroFL's networks as tables print them (submodels.md 4.1).

The table is that of Flower's baseline, of one example: 28x28 grey images, or 32x32 in colour.
Its program counts a convolution's multiply-accumulates, plus its outputs if it has a bias; two for
each value that a norm takes; a linear layer's multiply-accumulates; and adds what a layer comes
to once for each of the layer's tensors, so twice for one with a weight and a bias.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hocket.core.submodel import SubmodelSpec
from hocket.learn.models import heterofl_cnn, resnet18
from hocket.learn.submodels.cost import forward_cost
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import plan_of

LEVELS = (1.0, 0.5, 0.25, 0.125, 0.0625)


def hollow(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network without memory for its weights, and the shape of its examples."""
    with torch.device("meta"):
        return (heterofl_cnn(), (1, 28, 28)) if name == "cnn" else (resnet18(), (3, 32, 32))


def pixels_of_norms(net: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """By the names of the norms' weights, how many values of each channel arrive."""
    found: dict[str, int] = {}

    def note(name: str) -> Any:
        return lambda _norm, inputs, _output: found.update({name: inputs[0][0, 0].numel()})

    for name, layer in net.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(note(f"{name}.weight"))
    net(torch.zeros(1, *shape, device="meta"))
    return found


def printed(net: nn.Module, shape: tuple[int, ...]) -> list[int]:
    """What that program prints for the leading channels of each level."""
    graph = channel_graph(net)
    cost, norms = forward_cost(net, graph, shape), pixels_of_norms(net, shape)
    found = []
    for level in LEVELS:
        plan = plan_of(graph, SubmodelSpec((level,)))
        widths = {t.name: t.shape[0] for t in plan.sliced_manifest.tensors}
        total = sum(4 * pixels * widths[name] for name, pixels in norms.items())
        for layer, macs in zip(cost.layers, cost.macs_by_layer(plan.sizes), strict=True):
            name = layer.weight.name
            biased = f"{name.removesuffix('weight')}bias" in widths
            is_convolution = len(layer.weight.shape) == 4
            outputs = layer.positions * widths[name] if biased and is_convolution else 0
            total += (macs + outputs) * (2 if biased else 1)
        found.append(total)
    return found


@pytest.mark.parametrize(
    ("name", "millions", "digits"),
    [
        ("cnn", (80.50, 20.49, 5.31, 1.42, 0.40), (2, 2, 2, 2, 2)),
        ("resnet18", (557.7, 140.4, 35.6, 9.15, 2.41), (1, 1, 1, 2, 2)),
    ],
)
def test_operations_at_the_levels_of_heterofl(
    name: str, millions: tuple[float, ...], digits: tuple[int, ...]
) -> None:
    found = zip(printed(*hollow(name)), digits, strict=True)
    assert tuple(round(operations / 1e6, places) for operations, places in found) == millions


def test_multiply_accumulates_of_heterofls_networks_alone() -> None:
    """By hand: maps * filters * inputs * 9, and without a factor of two or any norm."""
    cnn, grey = hollow("cnn")
    full = 784 * 64 * 9 + 196 * 128 * 64 * 9 + 49 * 256 * 128 * 9 + 9 * 512 * 256 * 9 + 5120
    assert forward_cost(cnn, channel_graph(cnn), grey).macs() == full == 39_974_912
    resnet, colour = hollow("resnet18")
    stem, first = 1024 * 64 * 3 * 9, 4 * 1024 * 64 * 64 * 9
    # Each further stage: half the inputs, three times all of them, and a shortcut of one pixel.
    stages = [
        pixels * width * (width // 2 * 9 + 3 * width * 9 + width // 2)
        for pixels, width in ((256, 128), (64, 256), (16, 512))
    ]
    by_hand = stem + first + sum(stages) + 5120
    cost = forward_cost(resnet, channel_graph(resnet), colour)
    assert cost.macs() == by_hand == 555_422_720


@pytest.mark.parametrize(("name", "megabytes"), [("cnn", 5.939), ("resnet18", 42.618)])
def test_their_size(name: str, megabytes: float) -> None:
    """whale-fl.md 3.6: four bytes a parameter, in units of 2**20."""
    net, _ = hollow(name)
    parameters: list[Tensor] = list(net.parameters())
    assert sum(p.numel() for p in parameters) * 4 / 2**20 == pytest.approx(megabytes, abs=5e-4)
