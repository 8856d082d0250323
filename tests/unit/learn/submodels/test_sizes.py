"""What the sizing rules' parts mean for a model: submodels.md 4.3 to 4.5."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from support.small_nets import PlainNet, ResNet

from hocket.core.capability import Capability
from hocket.core.ids import DeviceId, Version
from hocket.core.sizing import FederatedDropout, FedRolex, Fjord, Whale
from hocket.core.sizing.size import Ability, Facts
from hocket.core.submodel import SubmodelSpec
from hocket.learn.flat import flatten, views
from hocket.learn.models import heterofl_cnn
from hocket.learn.sgd import TrainingRules
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import plan_of
from hocket.learn.submodels.step import sliced_step


def facts(keep: float, training: int = 1, version: int = 1) -> Facts:
    ability = Ability(Capability(num_examples=1000), keep=keep)
    return Facts(DeviceId("a"), training, Version(version), ability, 10, 8, 4000, seed=3)


def test_federated_dropout_keeps_each_channel_as_often_as_any_other() -> None:
    """4.4: a random subset of ratio * K, another for each training; K is a multiple here."""
    graph = channel_graph(PlainNet((16, 8, 4), maps=8))
    held, trainings = Counter[int](), 400
    for training in range(trainings):
        part = plan_of(graph, FederatedDropout().choose(facts(0.25, training), {}).spec)
        assert part.sizes == (4, 2, 1)
        assert part.kept[0] is not None
        held.update(part.kept[0].tolist())
    # A channel's count has a standard deviation of sqrt(400 * 0.25 * 0.75) = 8.7.
    assert all(held[channel] == pytest.approx(100, abs=40) for channel in range(16))


def test_federated_dropout_slices_the_classifiers_columns_and_leaves_its_bias() -> None:
    net = PlainNet((8, 8, 8), maps=8)
    part = plan_of(channel_graph(net), FederatedDropout().choose(facts(0.5), {}).spec)
    shapes = {tensor.name: tensor.shape for tensor in part.sliced_manifest.tensors}
    assert shapes["head.weight"] == (10, 4 * 4)
    assert shapes["head.bias"] == (10,)
    assert part.kept[2] is not None
    columns = part.index["head.weight"][1]
    assert columns is not None
    assert sorted({column // 4 for column in columns.tolist()}) == part.kept[2].tolist()
    kept = [None if channels is None else tuple(channels.tolist()) for channels in part.kept]
    assert len(set(kept)) == 3  # each layer has a draw of its own


def test_layers_that_are_added_share_their_channels() -> None:
    net = ResNet((8, 8))
    for rule in (FederatedDropout(), FedRolex()):
        part = plan_of(channel_graph(net), rule.choose(facts(0.5, version=5), {}).spec)
        stem = part.index["stem.weight"][0]
        joined = part.index["blocks.0.conv2.weight"][0]
        assert stem is not None
        assert joined is not None
        assert torch.equal(stem, joined)


@pytest.mark.parametrize("sizes", [(10, 20, 40), (64, 5, 25)])
@pytest.mark.parametrize("largest", [0.6, 0.8, 1.0])
def test_fjords_widths_are_the_leading_ceil_of_p_k(
    sizes: tuple[int, int, int], largest: float
) -> None:
    """4.5: of p_max's part, each smaller p keeps ceil(p K) channels; K as networks have them."""
    net = PlainNet(sizes, maps=8)
    graph = channel_graph(net)
    size = Fjord().choose(facts(largest), {})
    outer = plan_of(graph, size.spec)
    tenths = [p for p in (10, 8, 6, 4, 2) if p <= 10 * largest]
    assert outer.sizes == tuple(-(-tenths[0] * k // 10) for k in sizes)
    assert len(size.widths) == len(tenths)
    for p, width in zip(tenths, size.widths, strict=True):
        inner = plan_of(outer.sliced_graph, SubmodelSpec((width,)))
        assert inner.sizes == tuple(-(-p * k // 10) for k in sizes)
        assert all(kept is None or kept.tolist() == list(range(len(kept))) for kept in inner.kept)


def test_fjords_widths_share_the_statistics_of_batch_norm() -> None:
    """FjORD's own are separate by width (4.5): the page on task files says that these are not."""
    net = heterofl_cnn(hidden=(4, 6))
    graph, vector = channel_graph(net), flatten(net)
    (mean, _) = (t for name, t in views(vector, graph.manifest).items() if "running_mean" in name)
    size, rules = Fjord().choose(facts(1.0), {}), TrainingRules(1, 8, 0.1)
    batch = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.arange(8)
    for width, moved in ((size.widths[-1], 1), (size.widths[0], 4)):
        before = mean.clone()
        sliced_step(net, vector, plan_of(graph, SubmodelSpec((width,))), batch, rules)
        assert (mean != before).tolist() == [at < moved for at in range(4)]


def test_whale_at_its_full_size_is_the_model_itself() -> None:
    """3.10 item 7: such updates hold everything, so they are averaged as FedAvg's."""
    rule = Whale(half_window=0, delay=0)
    size = rule.choose(facts(1.0), {"scores": [math.ldexp(1.0, 60)]})
    net = PlainNet((4, 6, 5), maps=8)
    part, vector = plan_of(channel_graph(net), size.spec), flatten(net)
    assert part.extract(vector) is vector
    assert part.scatter(vector) == (vector, None)
