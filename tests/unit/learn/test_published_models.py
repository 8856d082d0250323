"""Sizes and costs of published networks, and of the submodels that slicing makes of them.

Counted are trainable parameters: weights and biases of all layers, norms included. Running
statistics of batch norms are not.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hocket.core.submodel import SubmodelSpec
from hocket.learn.models import densenet40, heterofl_cnn, resnet18, transformer
from hocket.learn.submodels.cost import forward_cost
from hocket.learn.submodels.dropout import kept_sizes
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import plan_of

LEVELS = (1.0, 0.5, 0.25, 0.125, 0.0625)
CIFAR = (3, 32, 32)


def hollow(name: str) -> nn.Module:
    """A network without memory for its weights."""
    with torch.device("meta"):
        match name:
            case "cnn":
                return heterofl_cnn()
            case "resnet18":
                return resnet18()
            case "densenet":
                return densenet40()
            case _:
                return densenet40(bottleneck=True)


def counts(module: nn.Module) -> tuple[int, ...]:
    graph = channel_graph(module)
    plans = [plan_of(graph, SubmodelSpec((level,))) for level in LEVELS]
    return tuple(
        sum(tensor.size for tensor in plan.sliced_manifest.tensors if tensor.trainable)
        for plan in plans
    )


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("cnn", (1_556_874, 391_370, 98_922, 25_274, 6_594)),
        ("resnet18", (11_172_170, 2_796_714, 701_018, 176_178, 44_510)),
    ],
)
def test_parameters_at_the_levels_of_heterofl(name: str, published: tuple[int, ...]) -> None:
    """submodels.md 4.1."""
    assert counts(hollow(name)) == published


@pytest.mark.parametrize(
    ("bottleneck", "classes", "parameters"),
    [(False, 10, 1_019_722), (True, 10, 176_122), (True, 100, 188_092), (True, 62, 183_038)],
)
def test_parameters_of_densenet(bottleneck: bool, classes: int, parameters: int) -> None:
    """distreal.md 2.8 item 5."""
    with torch.device("meta"):
        net = densenet40(classes, bottleneck=bottleneck)
    assert counts(net)[0] == parameters


@pytest.mark.parametrize(
    ("name", "macs", "features"), [("densenet", 264_812_928, 448), ("bottleneck", 72_365_352, 132)]
)
def test_work_of_densenet(name: str, macs: int, features: int) -> None:
    """distreal.md 2.8 item 5; the classifier's products are counted with those of the filters."""
    net = hollow(name)
    graph = channel_graph(net)
    assert forward_cost(net, graph, CIFAR).macs() == macs
    layers = list(net.modules())
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == 39
    assert len(graph.groups) == 39
    assert layers[-1].get_parameter("weight").shape == (10, features)


def test_work_of_densenet_falls_with_the_square_of_what_is_kept() -> None:
    """distreal.md 2.8 item 5, transitions dropped too."""
    net = hollow("densenet")
    graph = channel_graph(net)
    cost = forward_cost(net, graph, CIFAR)
    for rate, ratio in ((0.25, 0.5628), (0.5, 0.2504), (0.75, 0.0628)):
        kept = kept_sizes(graph, (rate,) * len(graph.groups))
        assert cost.share(kept) == pytest.approx(ratio, abs=5e-5)


def encoder(embedding: int, head: int, hidden: int, *, heads: int = 8, layers: int = 4) -> int:
    """Parameters of a Transformer of 1,000 tokens, 64 places and ten classes, layer by layer."""
    inside = heads * head
    projections = 3 * (embedding * inside + inside) + inside * embedding + embedding
    between = embedding * hidden + hidden + hidden * embedding + embedding
    norms = 2 * 2 * embedding
    tables = (1000 + 64) * embedding + 2 * embedding
    return tables + layers * (projections + between + norms) + embedding * 10 + 10


def test_parameters_of_the_transformer_at_the_levels_of_heterofl() -> None:
    """Embedding 256, 8 heads of 32, hidden 512; each head keeps its share."""
    with torch.device("meta"):
        net = transformer(vocabulary=1000, classes=10)
    expected = tuple(encoder(256 // part, 32 // part, 512 // part) for part in (1, 2, 4, 8, 16))
    assert counts(net) == expected
    uneven = plan_of(channel_graph(net), SubmodelSpec((0.3,))).sliced_manifest
    assert uneven.size == encoder(77, 10, 154)  # ceil(.3 * 256), ceil(.3 * 32), ceil(.3 * 512)


@pytest.mark.parametrize(
    ("net", "inputs"),
    [
        (heterofl_cnn(7, 3, hidden=(4, 4, 4, 4)), torch.zeros(2, 3, 32, 32)),
        (resnet18(7, widths=(4, 4, 4, 4)), torch.zeros(2, 3, 32, 32)),
        (densenet40(7, growth=2), torch.zeros(2, 3, 32, 32)),
        (transformer(20, 7, 9, embedding=8, heads=2, hidden=4, layers=1), torch.zeros(2, 9)),
    ],
    ids=["cnn", "resnet18", "densenet", "transformer"],
)
def test_a_model_gives_a_score_per_class(net: nn.Module, inputs: Tensor) -> None:
    assert net(inputs).shape == (2, 7)


def test_a_transformer_tells_the_order_of_tokens() -> None:
    net = transformer(20, 3, 9, embedding=8, heads=2, hidden=4, layers=1).eval()
    one, other = net(torch.tensor([[1, 2, 3]])), net(torch.tensor([[3, 2, 1]]))
    assert not torch.allclose(one, other, atol=1e-4)
