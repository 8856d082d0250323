"""Slices of a model: which entries, and that nothing is lost on the way there and back."""

from __future__ import annotations

import math
import struct

import pytest
import torch
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_nets import ConcatNet, NormNet, PlainNet, ResNet, shake
from torch import Tensor, nn
from torch.func import functional_call

from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.errors import InvalidRequest, ShapeMismatch
from hocket.learn.flat import flatten, views
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import undroppable
from hocket.learn.submodels.plan import IndexPlan, plan_of

RULES = list(ChannelRule)
NETS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (PlainNet((4, 6, 5), maps=8), (3, 8, 8)),
    (NormNet(), (1, 6, 6)),
    (ResNet((5, 7, 11)), (3, 8, 8)),
    (ConcatNet(), (1, 4, 4)),
    (nn.Sequential(nn.Flatten(), nn.Linear(4, 9), nn.PReLU(9), nn.Linear(9, 2)), (1, 2, 2)),
]


def plan(net: nn.Module, *keep: float, rule: ChannelRule, seed: int = 3) -> IndexPlan:
    return plan_of(channel_graph(net, linear=True), SubmodelSpec(keep, rule, seed))


def run(net: nn.Module, vector: Tensor, within: IndexPlan, x: Tensor) -> Tensor:
    output: Tensor = functional_call(net, views(vector, within.sliced_manifest), (x,))
    return output


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("keep", [(0.3,), (0.5,), (0.01,), (0.7,)])
@pytest.mark.parametrize(("net", "shape"), NETS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_slice_computes_what_the_full_net_does_with_the_rest_zeroed(
    net: nn.Module,
    shape: tuple[int, ...],
    keep: tuple[float, ...],
    rule: ChannelRule,
    training: bool,
) -> None:
    shake(net)
    net.train(training)
    sliced = plan(net, *keep, rule=rule)
    small = sliced.extract(flatten(net))
    assert small.numel() < sliced.graph.manifest.size
    zeroed, _ = sliced.scatter(small.clone())
    x = torch.randn((4, *shape), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = functional_call(net, views(zeroed, sliced.graph.manifest), (x,))
        torch.testing.assert_close(run(net, small, sliced, x), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keep", [(), (1.0,), (1.0, 1.0, 1.0)])
def test_the_full_spec_is_the_model_itself(keep: tuple[float, ...]) -> None:
    net = PlainNet((4, 6, 5), maps=8)
    full = plan_of(channel_graph(net), SubmodelSpec(keep, ChannelRule.RANDOM, 9))
    vector = flatten(net)
    assert full.extract(vector) is vector
    delta, held = full.scatter(vector)
    assert delta is vector
    assert held is None
    assert full.sliced_manifest is full.graph.manifest


def test_leading_keeps_the_first_ceil_of_the_share_and_at_least_one() -> None:
    sliced = plan_of(channel_graph(PlainNet((5, 8, 10))), SubmodelSpec((0.5, 0.01, 0.61)))
    assert sliced.sizes == (3, 1, 7)
    assert [None if k is None else k.tolist() for k in sliced.kept] == [
        [0, 1, 2],
        [0],
        [0, 1, 2, 3, 4, 5, 6],
    ]


def test_random_keeps_the_channels_of_smallest_hash() -> None:
    sliced = plan_of(
        channel_graph(PlainNet((8, 8, 8))), SubmodelSpec((0.4,), ChannelRule.RANDOM, seed=258)
    )
    for layer, kept in enumerate(sliced.kept):
        assert kept is not None
        seed_bytes = b"\x02\x01" + bytes(6)
        hashes = [
            xxhash.xxh3_64(
                seed_bytes + bytes([layer]) + bytes(7) + bytes([c]) + bytes(7)
            ).intdigest()
            for c in range(8)
        ]
        assert kept.tolist() == sorted(sorted(range(8), key=hashes.__getitem__)[:4])
    assert len({tuple(k.tolist()) for k in sliced.kept if k is not None}) == 3


def test_random_is_a_function_of_the_seed() -> None:
    graph = channel_graph(PlainNet())
    one, same, other = (
        plan_of(graph, SubmodelSpec((0.5,), ChannelRule.RANDOM, seed)).kept for seed in (1, 1, 2)
    )
    assert all(
        a is not None and b is not None and a.equal(b) for a, b in zip(one, same, strict=True)
    )
    assert not any(
        a is not None and b is not None and a.equal(b) for a, b in zip(one, other, strict=True)
    )


def test_rolling_keeps_a_window_of_neighbours_round_the_end() -> None:
    """submodels.md 4.8 item 5 with the paper's direction (4.3): K = 8, k = 3."""
    graph = channel_graph(PlainNet((8, 5, 8)))
    windows = []
    for version in range(8):
        kept = plan_of(graph, SubmodelSpec((0.375,), ChannelRule.ROLLING, version)).kept[0]
        assert kept is not None
        windows.append(kept.tolist())
    assert windows[:4] == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    assert windows[6:] == [[0, 6, 7], [0, 1, 7]]  # in ascending order
    # The published code rolls the other way: its rounds 0 to 3 are the versions 0, -1, -2, -3.
    published = [{0, 1, 2}, {7, 0, 1}, {6, 7, 0}, {5, 6, 7}]
    assert [set(windows[-round_ % 8]) for round_ in range(4)] == published
    counts = [sum(channel in window for window in windows) for channel in range(8)]
    assert counts == [3] * 8  # after 8 rounds
    # Layers of other sizes drift apart: version 7 begins at 7 mod 5 there.
    other = plan_of(graph, SubmodelSpec((0.375,), ChannelRule.ROLLING, 7)).kept[1]
    assert other is not None
    assert other.tolist() == [2, 3]
    far = plan_of(graph, SubmodelSpec((0.375,), ChannelRule.ROLLING, 2**64 - 1)).kept[0]
    assert far is not None
    assert far.tolist() == windows[7]  # 2**64 - 1 = 7 mod 8


@pytest.mark.parametrize("keep", [0.0625, 0.3, 0.5, 0.9])
def test_rolling_trains_each_channel_k_times_in_k_rounds_of_as_many_channels(keep: float) -> None:
    size, begin = 11, 40
    graph = channel_graph(PlainNet((size, 4, 4)))
    count = [0] * size
    for version in range(begin, begin + size):
        kept = plan_of(graph, SubmodelSpec((keep,), ChannelRule.ROLLING, version)).kept[0]
        assert kept is not None
        for channel in kept.tolist():
            count[channel] += 1
    assert count == [math.ceil(keep * size)] * size


def test_one_share_a_group_leaves_whole_groups_alone() -> None:
    net = PlainNet((4, 6, 5), maps=8)
    sliced = plan_of(channel_graph(net), SubmodelSpec((1.0, 0.5, 1.0)))
    shapes = {t.name: t.shape for t in sliced.sliced_manifest.tensors}
    assert shapes["conv1.weight"] == (4, 3, 3, 3)
    assert shapes["conv2.weight"] == (3, 4, 3, 3)
    assert shapes["conv3.weight"] == (5, 3, 3, 3)
    assert shapes["head.weight"] == (10, 20)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (SubmodelSpec((0.5, 0.5)), r"2 shares.*3 groups"),
        (SubmodelSpec((0.0,)), r"keep\[0\] is 0.0"),
        (SubmodelSpec((0.5, 1.5, 0.5)), r"keep\[1\] is 1.5"),
        (SubmodelSpec((float("nan"),)), r"keep\[0\] is nan"),
        (SubmodelSpec((0.5,), ChannelRule.RANDOM, seed=-1), "seed is -1"),
        (SubmodelSpec((0.5,), ChannelRule.RANDOM, seed=2**64), "seed is 18446744073709551616"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(spec: SubmodelSpec, said: str) -> None:
    graph = channel_graph(PlainNet())
    with pytest.raises(InvalidRequest, match=said):
        plan_of(graph, spec)


def test_vectors_of_the_wrong_size_are_refused() -> None:
    sliced = plan(NormNet(), 0.5, rule=ChannelRule.LEADING)
    with pytest.raises(ShapeMismatch):
        sliced.extract(torch.zeros(sliced.sliced_manifest.size))
    with pytest.raises(ShapeMismatch):
        sliced.scatter(torch.zeros(sliced.graph.manifest.size))


def test_a_model_that_cannot_be_traced_still_has_the_full_spec() -> None:
    graph = channel_graph(NormNet())
    rigid = plan_of(undroppable(graph.manifest), SubmodelSpec())
    vector = torch.arange(float(graph.manifest.size))
    assert rigid.extract(vector) is vector


@settings(max_examples=25, deadline=None)
@given(
    keeps=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4),
    rule=st.sampled_from(RULES),
    seed=st.integers(0, 2**64 - 1),
)
def test_unchanged_slices_average_to_the_unchanged_model(
    keeps: list[float], rule: ChannelRule, seed: int
) -> None:
    """submodels.md 4.8 item 2, with the mean over holders of 4.2 written out."""
    net = ConcatNet()
    graph = channel_graph(net)
    vector = torch.arange(1.0, graph.manifest.size + 1)  # integers: sums of a few are exact
    total, count = torch.zeros_like(vector), torch.zeros_like(vector)
    for keep in keeps:
        sliced = plan_of(graph, SubmodelSpec((keep,), rule, seed))
        values, held = sliced.scatter(sliced.extract(vector))
        mask = torch.ones_like(vector) if held is None else held
        assert torch.equal(values, vector * mask)
        assert sliced.extract(values).equal(sliced.extract(vector))
        assert int(mask.sum()) == sliced.sliced_manifest.size
        total, count = total + values, count + mask
    assert torch.equal(torch.where(count > 0, total / count.clamp(min=1), vector), vector)


def test_static_coverage_of_heterofl_levels() -> None:
    """submodels.md 4.8 item 4: one device of each width 1 .. 1/16 on 64 channels."""
    net = nn.Sequential(
        nn.Conv2d(1, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)
    )
    graph = channel_graph(net)
    count = torch.zeros(graph.manifest.size)
    for width in (1.0, 0.5, 0.25, 0.125, 0.0625):
        sliced = plan_of(graph, SubmodelSpec((width,)))
        _, held = sliced.scatter(torch.ones(sliced.sliced_manifest.size))
        count += torch.ones_like(count) if held is None else held
    seen = views(count, graph.manifest)["0.bias"].tolist()
    assert seen == [5] * 4 + [4] * 4 + [3] * 8 + [2] * 16 + [1] * 32


def test_a_slice_of_a_slice_is_a_slice() -> None:
    net = ConcatNet()
    shake(net)
    outer = plan_of(channel_graph(net), SubmodelSpec((0.8,), ChannelRule.RANDOM, 5))
    inner = plan_of(outer.sliced_graph, SubmodelSpec((0.5,), ChannelRule.RANDOM, 6))
    both = tuple(
        a if b is None else (b if a is None else a[b])
        for a, b in zip(outer.kept, inner.kept, strict=True)
    )
    direct = IndexPlan(outer.graph, both)
    vector = flatten(net)
    assert inner.extract(outer.extract(vector)).equal(direct.extract(vector))


def test_the_hash_input_is_three_little_endian_words() -> None:
    """Guards the documented rule against a change of byte order or width."""
    size, count, seed = 16, 4, 0x0102030405060708
    net = nn.Sequential(nn.Conv2d(1, size, 1), nn.Flatten(), nn.Linear(size, 2))
    sliced = plan_of(channel_graph(net), SubmodelSpec((count / size,), ChannelRule.RANDOM, seed))
    key = struct.Struct("<3Q")
    order = sorted(range(size), key=lambda c: xxhash.xxh3_64(key.pack(seed, 0, c)).intdigest())
    assert sliced.kept[0] is not None
    assert sliced.kept[0].tolist() == sorted(order[:count])
    assert len(sliced.kept[0]) == math.ceil(0.25 * 16)
