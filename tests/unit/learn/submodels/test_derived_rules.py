"""Groups, attention, norms and embeddings: a slice is the net that one would build that small."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.derived_nets import (
    VOCABULARY,
    CausalNet,
    EncoderNet,
    MaskedNet,
    PatchNet,
    SqueezeNet,
    TokenNet,
    TorchAttentionNet,
    WeighedNet,
    WideBlockNet,
    WordNet,
    group_normed,
    grouped,
)
from support.small_nets import shake
from torch import Tensor, nn

from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.errors import ModelError
from hocket.learn.flat import flatten, load, manifest_of, views
from hocket.learn.models.transformer import transformer
from hocket.learn.sgd import TrainingRules
from hocket.learn.submodels.cost import forward_cost
from hocket.learn.submodels.fit import call
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import Segment
from hocket.learn.submodels.plan import plan_of
from hocket.learn.submodels.step import sliced_step

IMAGE, TOKENS = (1, 6, 6), (5,)
RULES = list(ChannelRule)


def small_transformer(embedding: int = 8, hidden: int = 6) -> nn.Module:
    sizes = {"embedding": embedding, "heads": 2, "hidden": hidden, "layers": 2}
    return transformer(VOCABULARY, 3, 5, **sizes, dropout=0.0)


def examples(shape: tuple[int, ...], n: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    if shape == IMAGE:
        return torch.randn((n, *shape), generator=generator)
    return torch.randint(VOCABULARY, (n, *shape), generator=generator).float()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name.lower())
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("whole", "small", "shape"),
    [
        # Half the channels of every group of a convolution, a norm or a head.
        (grouped(8, 24, 6), grouped(4, 12, 3), IMAGE),
        (group_normed(8, 24), group_normed(4, 12), IMAGE),
        (WideBlockNet(6, 10), WideBlockNet(3, 5), IMAGE),
        (SqueezeNet(4, 6, 2), SqueezeNet(2, 3, 1), IMAGE),
        (WeighedNet(8, 6), WeighedNet(4, 3), IMAGE),
        (MaskedNet(6, 10), MaskedNet(3, 5), TOKENS),
        (CausalNet(8, 12), CausalNet(4, 6), TOKENS),
        (EncoderNet(8, 6), EncoderNet(4, 3), TOKENS),
        (PatchNet(8, inside=4), PatchNet(4, inside=2), IMAGE),
        (TorchAttentionNet(8), TorchAttentionNet(4), TOKENS),
        (WordNet(6, 10), WordNet(3, 5), TOKENS),
        (small_transformer(8, 6), small_transformer(4, 3), TOKENS),
    ],
    ids=[
        "grouped",
        "norms",
        "wide",
        "squeeze",
        "weighed",
        "masked",
        "causal",
        "encoder",
        "patches",
        "torch",
        "words",
        "transformer",
    ],
)
def test_a_slice_is_the_small_net(
    whole: nn.Module,
    small: nn.Module,
    shape: tuple[int, ...],
    training: bool,
    rule: ChannelRule,
) -> None:
    shake(whole)
    plan = plan_of(channel_graph(whole), SubmodelSpec((0.5,), rule, 3))
    assert plan.sliced_manifest == manifest_of(small)
    slice_vector = plan.extract(flatten(whole))
    load(small, slice_vector)
    whole.train(training)
    small.train(training)
    x = examples(shape)
    own = whole(x)
    scores = call(whole, views(slice_vector, plan.sliced_manifest), x)
    torch.testing.assert_close(scores, small(x))
    assert not torch.allclose(scores, own)
    assert torch.equal(whole(x), own)  # and the whole net works as before


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.7])
@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (grouped(8, 12, 6), IMAGE),
        (group_normed(24, 24), IMAGE),
        (WideBlockNet(6, 10), IMAGE),
        (SqueezeNet(4, 6, 2), IMAGE),
        (WeighedNet(8, 6), IMAGE),
        (PatchNet(8, inside=6), IMAGE),
        (EncoderNet(12, 6), TOKENS),
        (CausalNet(12, 9), TOKENS),
        (TokenNet(12, fused="chunk"), TOKENS),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_a_slice_of_any_width_trains(net: nn.Module, shape: tuple[int, ...], keep: float) -> None:
    plan = plan_of(channel_graph(net), SubmodelSpec((keep,), ChannelRule.RANDOM, 5))
    pairs = zip(plan.sizes, plan.graph.sizes, strict=True)
    assert all(kept == max(1, math.ceil(keep * size)) for kept, size in pairs)
    vector = flatten(net)
    before = vector.clone()
    labels = torch.tensor([0, 1, 2, 0])
    sliced_step(net, vector, plan, (examples(shape), labels), TrainingRules(1, 4, 0.1))
    _, held = plan.scatter(plan.extract(vector))
    assert held is not None
    assert torch.equal(vector[held == 0], before[held == 0])
    assert not torch.equal(vector, before)


def test_both_sides_of_a_grouped_convolution_keep_its_groups() -> None:
    graph = channel_graph(grouped(8, 12, 6))
    # Depthwise in between, so the 8 channels of layer 0 reach the 4 groups of layer 3.
    assert [(g.name, g.size) for g in graph.groups] == [("0", 2), ("3", 3), ("7", 6)]
    assert graph.groups[0].producers == ("0.weight", "0.bias", "2.bias")
    assert graph.axes["0.weight"] == ((Segment(2, 0),) * 4, (Segment(1),))
    assert graph.axes["2.weight"] == ((Segment(2, 0),) * 4,)
    assert graph.axes["3.weight"] == ((Segment(3, 1),) * 4, (Segment(2, 0),))
    # Two filters a channel: channel c makes the filters 2c and 2c + 1.
    assert graph.axes["6.weight"] == ((Segment(3, 1, block=2),) * 4,)
    assert graph.axes["7.weight"] == ((Segment(6, 2),), (Segment(3, 1, block=2),) * 4)


def test_concatenated_channels_that_no_group_can_share_are_whole() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(1, 5, 1), nn.Conv2d(1, 7, 1)
            self.join = nn.Conv2d(12, 8, 1, groups=2)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.join(torch.cat([self.left(x), self.right(x)], 1))
            scores: Tensor = self.head(x.mean((2, 3)))
            return scores

    assert [(g.name, g.size) for g in channel_graph(Net()).groups] == [("join", 4)]


@pytest.mark.parametrize("fused", ["", "view", "chunk", "einsum"])
def test_heads_keep_their_number_and_each_the_same_channels(fused: str) -> None:
    graph = channel_graph(TokenNet(width=8, heads=2, fused=fused))
    heads = [("three", 4)] if fused else [("query", 4), ("value", 4)]
    assert [(g.name, g.size) for g in graph.groups] == [("tokens", 8), *heads, ("wide", 16)]
    value = 1 if fused else 2
    if fused:
        assert graph.axes["three.weight"] == ((Segment(4, 1),) * 6, (Segment(8, 0),))
    else:
        assert graph.axes["key.weight"] == ((Segment(4, 1),) * 2, (Segment(8, 0),))
        assert graph.axes["value.weight"] == ((Segment(4, 2),) * 2, (Segment(8, 0),))
    assert graph.axes["out.weight"] == ((Segment(8, 0),), (Segment(4, value),) * 2)
    # The head's weight is the embedding's, held under that name alone: words are never dropped.
    assert graph.axes["tokens.weight"] == ((Segment(VOCABULARY),), (Segment(8, 0),))
    assert not any(name.startswith("head") for name in graph.axes)


def test_the_first_channels_of_every_head_are_kept() -> None:
    """submodels.md 4.1: the first ceil(head_dim * rate) of each head, .3 of 4 being 2."""
    plan = plan_of(channel_graph(TokenNet(width=8, heads=2)), SubmodelSpec((0.3,)))
    rows, columns = plan.index["query.weight"]
    assert rows is not None
    assert columns is not None
    assert rows.tolist() == [0, 1, 4, 5]
    assert columns.tolist() == [0, 1, 2]


def test_torchs_attention_ties_what_arrives_to_its_heads() -> None:
    graph = channel_graph(TorchAttentionNet(width=8, heads=2))
    assert [(g.name, g.size) for g in graph.groups] == [("tokens", 4)]
    assert graph.axes["attention.in_proj_weight"] == ((Segment(4, 0),) * 6, (Segment(4, 0),) * 2)
    assert graph.axes["positions"] == ((Segment(16),), (Segment(4, 0),) * 2)
    # Scaled up when less is kept, as the linear layers of attention that is written out.
    inner = ("attention.in_proj_weight", "attention.in_proj_bias")
    outer = ("attention.out_proj.weight", "attention.out_proj.bias")
    assert graph.groups[0].producers == ("tokens.weight", *inner, *outer)


def test_units_that_work_on_each_position_are_filters() -> None:
    """Those of a head behind a mean are not, unless they are asked for."""
    tokens = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
    assert [g.name for g in channel_graph(tokens).groups] == ["0", "1"]
    head = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 6), nn.Linear(6, 2))
    assert [g.name for g in channel_graph(head).groups] == ["0"]
    assert [g.name for g in channel_graph(head, linear=True).groups] == ["0", "2"]


def test_units_that_weigh_filters_are_dropped_with_them() -> None:
    graph = channel_graph(WeighedNet(8, 6))
    assert [(g.name, g.size) for g in graph.groups] == [("first", 8), ("second", 6)]
    assert graph.groups[0].producers == (
        *("first.weight", "first.bias"),
        *("weigh.weight", "weigh.bias"),
    )
    assert graph.axes["squeeze.weight"] == ((Segment(5),), (Segment(8, 0),))


def test_units_that_weigh_filters_are_whole_where_they_are_used_otherwise_too() -> None:
    class Otherwise(WeighedNet):
        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            weights = self.weigh(F.relu(self.squeeze(x.mean((2, 3)))))
            x = self.second(x * weights[:, :, None, None]).mean((2, 3))
            scores: Tensor = self.head(x) + torch.cumsum(weights, 1)[:, :3]
            return scores

    assert [g.name for g in channel_graph(Otherwise()).groups] == ["second"]


class Around(nn.Module):
    """Embedded tokens, any function of them, and a linear layer."""

    def __init__(self, between: Callable[[Tensor], Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, 8)
        self.layer = nn.Identity() if layer is None else layer
        self.between = between
        self.head = nn.Linear(8, 2)

    def forward(self, numbers: Tensor) -> Tensor:
        scores: Tensor = self.head(self.between(self.layer(self.tokens(numbers.long()))))
        return scores


@pytest.mark.parametrize(
    ("between", "layer", "named"),
    [
        (lambda x: x.view(x.shape[0], x.shape[1], 2, 4), None, "'view'.*give -1"),
        (lambda x: x.view(x.shape[0], -1, 8), None, "'view'.*give -1"),
        (lambda x: x.view(x.shape[0], x.shape[1], 3, -1), None, "'view'.*give -1"),
        (lambda x: x.softmax(-1), None, "'softmax'.*several channels"),
        (lambda x: x.mean(-1), None, "'mean'.*one number of several"),
        (lambda x: x.transpose(1, 2), None, "'head'.*spatial axes"),
        (lambda x: x, nn.LSTM(8, 8), "'layer'.*no rule"),
        (
            lambda x: x,
            nn.TransformerEncoderLayer(8, 2, 8, activation=torch.tanh),
            "'layer'.*relu nor its gelu",
        ),
        (lambda x: x, nn.MultiheadAttention(8, 2, kdim=4, vdim=4), "'layer'.*kdim"),
        (lambda x: torch.einsum("...c,...c->...c", x, x), None, "'einsum'.*every axis"),
        (lambda x: torch.einsum("btc,bsd->cd", x, x), None, "'einsum'.*two of its axes"),
        (lambda x: x, nn.Embedding(4, 2, max_norm=1.0), "'layer'.*max_norm"),
        # Each of these would make other channels of what is left, without an error of torch's.
        (lambda x: x.view(x.shape[0] * 2, x.shape[1], -1), None, "'view'.*cuts or joins"),
        (lambda x: F.avg_pool2d(x.transpose(1, 2), 2), None, "'avg_pool2d'.*along the channels"),
        (lambda x: x, nn.BatchNorm1d(8), "'layer'.*axis 1"),
        (lambda x: x, nn.GroupNorm(2, 8), "'layer'.*axis 1"),
        (lambda x: x, nn.PReLU(8), "'layer'.*axis 1"),
    ],
)
def test_a_node_that_does_not_fit_every_width_is_named(
    between: Callable[[Tensor], Tensor], layer: nn.Module | None, named: str
) -> None:
    with pytest.raises(ModelError, match=named):
        channel_graph(Around(between, layer))


def test_a_flatten_of_a_sequence_repeats_its_channels() -> None:
    net = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 2))
    assert channel_graph(net).axes["2.weight"] == ((Segment(2),), (Segment(4, 0),) * 3)


@pytest.mark.parametrize("side", [1, 3])
def test_flattened_maps_beside_other_channels_are_told_apart_or_refused(side: int) -> None:
    """Of 4 + 4 * 9 columns the next weight would tell only that each channel has five of them."""

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 6 // side, 6 // side)
            self.head = nn.Linear(4 + 4 * side * side, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            scores: Tensor = self.head(torch.cat([x.mean((2, 3)), x.flatten(1)], 1))
            return scores

    net = Beside()
    assert net(examples(IMAGE)).shape == (4, 2)
    if side == 1:
        assert channel_graph(net).axes["head.weight"] == ((Segment(2),), (Segment(4, 0),) * 2)
    else:
        with pytest.raises(ModelError, match=r"'head'.*takes 40 columns.*its own layer"):
            channel_graph(net)


def test_macs_of_grouped_layers_and_attention() -> None:
    """By the shapes: filters * (inputs / groups) * 9 * 36 places, and 4 * 8 * 8 a token."""
    net = grouped(8, 12, 6)
    layers = (8 * 9 * 36, 8 * 9 * 36, 12 * 2 * 9 * 36, 24 * 9 * 36, 6 * 24 * 36, 6 * 3)
    cost = forward_cost(net, channel_graph(net), IMAGE)
    assert cost.macs_by_layer() == layers
    halves = (4 * 9 * 36, 4 * 9 * 36, 8 * 9 * 36, 16 * 9 * 36, 3 * 16 * 36, 3 * 3)
    assert cost.macs_by_layer((1, 2, 3)) == halves  # channels a group: 1 of 2, 2 of 3
    tokens = TorchAttentionNet(8)
    attention = forward_cost(tokens, channel_graph(tokens), TOKENS)
    assert attention.macs_by_layer() == (5 * 3 * 8 * 8, 5 * 8 * 8, 8 * 3)
