"""Analytic cost, the table of dropout vectors, and the random filters (distreal.md 2.8)."""

from __future__ import annotations

import pytest
import torch
from support.small_nets import NormNet, PlainNet
from torch import nn

from hocket.core.submodel import SubmodelSpec
from hocket.errors import InvalidRequest, ModelError
from hocket.learn.submodels.cost import ForwardCost, forward_cost
from hocket.learn.submodels.dropout import draw, dropout_table, kept_sizes, uniform_table
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import plan_of


def convolutions_only() -> nn.Sequential:
    """The three layers of 2.8 item 4, and a last one so that the third is not the output."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


@pytest.fixture
def cost() -> ForwardCost:
    net = convolutions_only()
    return forward_cost(net, channel_graph(net), (3, 32, 32))


def test_macs_of_the_full_net(cost: ForwardCost) -> None:
    assert cost.macs_by_layer() == (884_736, 4_718_592, 4_718_592, 1_280)


@pytest.mark.parametrize(
    ("vector", "ratio"),
    [
        ((0.5, 0.5, 0.5), 0.2714),
        ((0.5, 0.0, 0.0), 0.7286),
        ((0.0, 0.0, 0.5), 0.7714),
        ((0.25, 0.25, 0.25), 0.5786),
        ((0.5, 0.25, 0.0), 0.5571),
    ],
)
def test_macs_shrink_with_both_sides_of_a_layer(
    cost: ForwardCost, vector: tuple[float, ...], ratio: float
) -> None:
    convolutions = cost.macs_by_layer(kept_sizes(cost.graph, vector))[:3]
    assert sum(convolutions) / 10_321_920 == pytest.approx(ratio, abs=5e-5)


def test_macs_of_a_half_wide_net_by_layer(cost: ForwardCost) -> None:
    halves = kept_sizes(cost.graph, (0.5, 0.5, 0.5))
    assert cost.macs_by_layer(halves) == (442_368, 1_179_648, 1_179_648, 640)


def test_a_submodel_costs_as_its_graph_says() -> None:
    net = convolutions_only()
    half = plan_of(channel_graph(net), SubmodelSpec((0.5,))).sliced_graph
    cost = forward_cost(net, half, (3, 32, 32))
    assert cost.macs_by_layer() == (442_368, 1_179_648, 1_179_648, 640)
    assert cost.share(half.sizes) == 1.0


def test_an_input_that_does_not_fit_is_refused() -> None:
    net = PlainNet()
    with pytest.raises(ModelError, match=r"input of shape \(1, 8, 8\)"):
        forward_cost(net, channel_graph(net), (1, 8, 8))


def test_costing_leaves_the_model_alone() -> None:
    net = NormNet().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    forward_cost(net, channel_graph(net), (1, 6, 6))
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_the_dearest_affordable_row_is_chosen(cost: ForwardCost) -> None:
    table = uniform_table(cost, [0.0, 0.75, 0.25, 0.5])
    costs = [row.cost for row in table.rows]
    assert costs == sorted(costs)
    assert costs[-1] == 1.0
    chosen = [table.choose(step / 100).cost for step in range(101)]
    assert chosen == sorted(chosen)
    for step, row_cost in enumerate(chosen):
        assert row_cost <= step / 100 or row_cost == costs[0]
        assert not any(row_cost < other <= step / 100 for other in costs)
    assert table.choose(1.0).vector == (0.0, 0.0, 0.0)
    assert table.choose(0.0).vector == (0.75, 0.75, 0.75)
    assert table.choose(float("nan")).vector == (0.75, 0.75, 0.75)


def test_vectors_that_do_not_fit_are_refused(cost: ForwardCost) -> None:
    with pytest.raises(InvalidRequest, match="2 shares; the model has 3"):
        dropout_table(cost, [(0.5, 0.5)])
    with pytest.raises(InvalidRequest, match=r"share 1 .* is 1.5"):
        dropout_table(cost, [(0.5, 1.5, 0.0)])
    with pytest.raises(InvalidRequest, match="is nan"):
        dropout_table(cost, [(float("nan"), 0.0, 0.0)])
    with pytest.raises(InvalidRequest, match="at least one"):
        uniform_table(cost, [])


def test_every_filter_is_kept_as_often_as_any_other() -> None:
    graph = channel_graph(NormNet(one=6, two=10))
    generator = torch.Generator().manual_seed(0)
    seen = torch.zeros(10)
    draws = 2000
    for _ in range(draws):
        kept = draw(graph, (0.0, 0.7), generator).kept
        assert kept[0] is None
        assert kept[1] is not None
        assert kept[1].tolist() == sorted(set(kept[1].tolist()))
        seen[kept[1]] += 1
    # Each count is binomial (2000, 0.3): four standard deviations are 82.
    assert int(seen.sum()) == 3 * draws
    assert bool(((seen - 0.3 * draws).abs() < 82).all())


def test_a_group_keeps_at_least_one_filter() -> None:
    assert kept_sizes(channel_graph(NormNet(one=6, two=10)), (1.0, 0.99)) == (1, 1)


def test_no_dropout_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    assert draw(channel_graph(NormNet()), (0.0, 0.0), generator).is_full
    assert torch.equal(generator.get_state(), state)
