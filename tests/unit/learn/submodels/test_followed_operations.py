"""Operations that a slice must follow: it is the whole net without what is dropped."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.small_nets import shake
from torch import Tensor, nn

from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.errors import ModelError
from hocket.learn.flat import flatten, load, views
from hocket.learn.submodels.fit import call
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import Segment
from hocket.learn.submodels.plan import plan_of

Between = Callable[["Net", Tensor, Tensor], Tensor]
"""From the net, the image (n, 2, 6, 6) and eight maps of it to what `second` or `head` reads."""


class Net(nn.Module):
    """A convolution, any function, a second convolution unless it gives no maps, and a head."""

    def __init__(self, between: Between, layer: nn.Module | None = None, second: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.other = nn.Conv2d(2, 8, 1)
        self.four = nn.Conv2d(2, 4, 1)
        self.gamma = nn.Parameter(torch.ones(8))
        self.squeeze, self.weigh = nn.Linear(8, 3), nn.Linear(3, 8)
        self.norm, self.wide = nn.BatchNorm2d(10), nn.Linear(10, 8)
        self.layer = nn.Identity() if layer is None else layer
        self.between = between
        self.second = nn.Conv2d(second, 6, 1) if second else nn.Identity()
        self.head = nn.Linear(6 if second else 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.between(self, x, self.layer(self.first(x))))
        scores: Tensor = self.head(y.mean((2, 3)) if isinstance(self.second, nn.Conv2d) else y)
        return scores

    def weights(self, x: Tensor) -> Tensor:
        """As squeeze-and-excitation: from means to a factor for each channel."""
        return torch.sigmoid(self.weigh(F.relu(self.squeeze(x))))


def famous(net: Net, _image: Tensor, y: Tensor) -> Tensor:
    """Squeeze-and-excitation as it is mostly written."""
    batch, channels, _, _ = y.size()
    means = F.adaptive_avg_pool2d(y, 1).view(batch, channels)
    return y * net.weights(means).view(batch, channels, 1, 1).expand_as(y)


def examples() -> Tensor:
    return torch.randn((4, 2, 6, 6), generator=torch.Generator().manual_seed(3))


MAPS: dict[str, Net] = {
    "nearest": Net(lambda _n, _x, y: F.interpolate(y, scale_factor=2.0)),
    "bilinear": Net(lambda _n, _x, y: F.interpolate(y, (9, 4), mode="bilinear")),
    "interpolate to": Net(lambda _n, x, y: F.interpolate(F.max_pool2d(y, 2), size=x.shape[2:])),
    "upsampling": Net(lambda _n, _x, y: y, nn.UpsamplingBilinear2d(scale_factor=2)),
    "pad last": Net(lambda _n, _x, y: F.pad(y, (1, 2))),
    "pad both": Net(lambda _n, _x, y: F.pad(y, [1, 0, 0, 2], "constant", 0.7)),
    "pad none": Net(lambda _n, _x, y: F.pad(y, (1, 1, 0, 0, 0, 0))),
    "pad reflected": Net(lambda _n, _x, y: F.pad(y, (1, 1, 2, 2), mode="reflect")),
    "ZeroPad2d": Net(lambda _n, _x, y: y, nn.ZeroPad2d((1, 0, 2, 1))),
    "ConstantPad2d": Net(lambda _n, _x, y: y, nn.ConstantPad2d(1, 0.3)),
    "ReflectionPad2d": Net(lambda _n, _x, y: y, nn.ReflectionPad2d(2)),
    "ReplicationPad2d": Net(lambda _n, _x, y: y, nn.ReplicationPad2d(1)),
    "square": Net(lambda _n, _x, y: y**2),
    "pow": Net(lambda _n, _x, y: torch.pow(y, 3) + y.pow(2)),
    "base": Net(lambda _n, _x, y: 1.1**y),
    "roots": Net(lambda _n, _x, y: torch.sqrt(F.softplus(y)) + F.softplus(y).rsqrt()),
    "exp": Net(lambda _n, _x, y: torch.exp(-y)),
    "view maps": Net(lambda _n, _x, y: y.view(y.size(0), y.size(1), -1).unsqueeze(3)),
    "reshape maps": Net(
        lambda _n, x, y: torch.reshape(y, (x.shape[0], y.shape[1], 9, 2, 2))[:, :, 0]
    ),
    "gamma view": Net(lambda n, _x, y: n.gamma.view(1, -1, 1, 1) * y),
    "gamma reshape": Net(lambda n, _x, y: y * n.gamma.reshape((-1, 1, 1))),
    "gamma index": Net(lambda n, _x, y: n.gamma[None, :, None, None] * y),
    "gamma behind": Net(lambda n, _x, y: y + n.gamma[:, None, None] ** 2),
    "gamma unsqueezed": Net(lambda n, _x, y: y * n.gamma.unsqueeze(-1).unsqueeze(2)),
}
VECTORS: dict[str, Net] = {
    "beside means": Net(
        lambda n, x, y: n.wide(torch.cat([x.mean((2, 3)), y.mean((2, 3))], 1)), second=0
    ),
    "squeeze twice": Net(lambda _n, _x, y: y.squeeze(-1).squeeze(2), nn.AdaptiveAvgPool2d(1), 0),
    "squeeze both": Net(
        lambda _n, _x, y: torch.squeeze(F.adaptive_max_pool2d(y, (1, 1)), (2, 3)), second=0
    ),
    "squeeze means": Net(
        lambda _n, _x, y: y.mean((2, 3), keepdim=True).squeeze(3).squeeze(2), second=0
    ),
    "view one": Net(lambda _n, _x, y: F.adaptive_avg_pool2d(y, 1).view(-1, y.size(1)), second=0),
    "view pooled": Net(lambda _n, x, y: F.avg_pool2d(y, 6).view(x.size(0), y.size(1)), second=0),
    "view back": Net(
        lambda _n, _x, y: y.mean((2, 3)).view(-1, y.shape[1], 1, 1).flatten(1), second=0
    ),
}
JOINED: dict[str, Net] = {
    "maximum": Net(lambda n, x, y: torch.maximum(y, n.other(x))),
    "minimum": Net(lambda n, x, y: n.other(x).minimum(y)),
    "squeeze-excite": Net(famous),
    "squeeze-excite -1": Net(
        lambda n, _x, y: n.weights(y.mean((2, 3))).view(y.shape[0], -1, 1, 1) * y
    ),
}
BESIDE: dict[str, Net] = {
    "input first": Net(lambda _n, x, y: torch.cat([x, y], 1), second=10),
    "input last": Net(lambda _n, x, y: torch.cat([y, F.relu(x)], dim=1), second=10),
    "input between": Net(lambda n, x, y: torch.cat([y, x, n.four(x)], 1), second=14),
    "input, norm": Net(lambda n, x, y: F.relu(n.norm(torch.cat([x * 2, y], 1))), second=10),
    "input twice": Net(lambda _n, x, y: F.relu(torch.cat([x, y, x], 1)), second=12),
    "one of the inputs": Net(lambda _n, x, y: torch.cat([x[:, :1], y], 1), second=9),
    "gamma": Net(
        lambda n, x, y: torch.cat([n.gamma.view(1, -1, 1, 1).expand(x.size(0), -1, 6, 6), y], 1),
        second=16,
    ),
}


@pytest.mark.parametrize("rule", list(ChannelRule), ids=lambda rule: rule.name.lower())
@pytest.mark.parametrize(
    ("net", "groups"),
    [
        *(pytest.param(net, ["first", "second"], id=name) for name, net in MAPS.items()),
        *(pytest.param(net, ["first"], id=name) for name, net in VECTORS.items()),
        *(pytest.param(net, ["first", "second"], id=name) for name, net in JOINED.items()),
    ],
)
def test_a_slice_is_the_net_without_what_it_drops(
    net: Net, groups: list[str], rule: ChannelRule
) -> None:
    check(net, groups, rule)


@pytest.mark.parametrize("rule", list(ChannelRule), ids=lambda rule: rule.name.lower())
@pytest.mark.parametrize("net", BESIDE.values(), ids=BESIDE.keys())
def test_channels_beside_an_input_are_dropped_and_the_inputs_are_not(
    net: Net, rule: ChannelRule
) -> None:
    groups = (
        ["first", "second"] if net is not BESIDE["input between"] else ["first", "four", "second"]
    )
    check(net, groups, rule)


def check(net: Net, groups: list[str], rule: ChannelRule) -> None:
    """The slice's scores are those of the whole net with 0 in place of all that is dropped."""
    shake(net.eval())
    x, vector = examples(), flatten(net)
    graph = channel_graph(net)
    assert [group.name for group in graph.groups] == groups
    plan = plan_of(graph, SubmodelSpec((0.4,), rule, 3))
    assert plan.sizes == tuple(math.ceil(0.4 * size) for size in graph.sizes)
    own = net(x)
    sliced = call(net, views(plan.extract(vector), plan.sliced_manifest), x)
    masked, _ = plan.scatter(plan.extract(vector))
    load(net, masked)
    torch.testing.assert_close(sliced, net(x))
    assert not torch.allclose(sliced, own)


def test_columns_of_the_input_stay_where_they_are() -> None:
    axes = channel_graph(BESIDE["input between"]).axes
    assert axes["second.weight"][1] == (Segment(8, 0), Segment(2), Segment(4, 1))


def test_a_view_by_the_number_of_channels_ties_heads_to_them() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(7, 8)
            self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
            self.out, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, numbers: Tensor) -> Tensor:
            x = self.tokens(numbers.long())
            batch, time, channels = x.size()
            query, key, value = (
                layer(x).view(batch, time, 2, -1).transpose(1, 2)
                for layer in (self.query, self.key, self.value)
            )
            mixed = torch.softmax(query @ key.transpose(-2, -1) * 0.5, -1) @ value
            x = x + self.out(mixed.transpose(1, 2).contiguous().view(batch, time, channels))
            scores: Tensor = self.head(x.mean(1))
            return scores

    net = Tied()
    shake(net)
    numbers = torch.randint(7, (4, 5), generator=torch.Generator().manual_seed(1)).float()
    graph = channel_graph(net)
    assert [(g.name, g.size) for g in graph.groups] == [("tokens", 4), ("query", 4)]
    plan = plan_of(graph, SubmodelSpec((0.5,), ChannelRule.RANDOM, 4))
    part = plan.extract(flatten(net))
    sliced = call(net, views(part, plan.sliced_manifest), numbers)
    load(net, plan.scatter(part)[0])
    torch.testing.assert_close(sliced, net(numbers))


@pytest.mark.parametrize(
    ("between", "named"),
    [
        (lambda _n, _x, y: y.squeeze(), "'squeeze'.*flatten"),
        (lambda _n, _x, y: y.squeeze(1), "'squeeze'.*one entry"),
        (lambda _n, _x, y: F.avg_pool2d(y, 6).squeeze(-1), "'squeeze'.*one entry"),
        # Stretched by what they meet, so the last axis has six entries after all.
        (lambda _n, _x, y: (y.mean((2, 3), keepdim=True) * y).squeeze(3), "'squeeze'.*one entry"),
        (lambda _n, x, y: (y.mean((2, 3), keepdim=True) * x).squeeze(3), ""),
        (lambda _n, _x, y: F.pad(y, (0, 0, 0, 0, 1, 1)), "'pad'.*adds channels"),
        (lambda _n, _x, y: y.view(-1, 8, 36, 1), "'view'.*give -1"),
        (lambda _n, _x, y: y.view(y.size(2), y.size(1), -1, 1), "'view'.*give -1"),
        (lambda _n, _x, y: y.view(4, y.size(1), -1, 1), "'view'.*give -1"),
        (lambda _n, _x, y: y.view(-1, y.size(1), 36, 1), "'view'.*give -1"),
        (lambda n, x, y: y.view(y.size(0), n.four(x).size(1), -1, 1), "'view'.*8 channels meet 4"),
        (lambda _n, x, y: torch.cat([x.cumsum(1), y, x * 2], 1), "'cat'.*'cumsum', 'mul'"),
        (lambda _n, x, y: torch.cat([x.cumsum(1), y], 1) * 2, "'cat'.*'cumsum' is not known"),
        (lambda _n, _x, y: torch.stack([y, y], 1), "'stack'.*function stack.*use unsqueeze"),
        (lambda _n, _x, y: torch.split(y, 4, 1)[0], r"function split, .*\.py:\d+\).*use chunk"),
    ],
)
def test_a_node_that_may_be_followed_wrongly_is_refused(between: Between, named: str) -> None:
    if not named:
        assert [group.name for group in channel_graph(Net(between)).groups] == ["second"]
        return
    with pytest.raises(ModelError, match=named) as refused:
        channel_graph(Net(between))
    assert "0x" not in refused.value.message  # no addresses


def test_a_value_made_with_as_many_channels_keeps_them_all() -> None:
    def between(net: Net, x: Tensor, y: Tensor) -> Tensor:
        numbered: Tensor = net.other(x) + torch.arange(y.shape[1]).view(1, -1, 1, 1)
        return numbered

    graph = channel_graph(Net(between))
    assert [group.name for group in graph.groups] == ["second"]
    assert [whole.node for whole in graph.wholes] == ["arange", "add"]


def test_a_parameter_that_one_node_cannot_follow_is_whole_for_all() -> None:
    def between(net: Net, _: Tensor, y: Tensor) -> Tensor:
        scaled: Tensor = y * net.gamma.view(1, -1, 1, 1) + net.gamma.cumsum(0).sum()
        return scaled

    graph = channel_graph(Net(between))
    assert [group.name for group in graph.groups] == ["second"]
    assert "gamma" not in graph.axes
