"""Steps on slices of grouped convolutions, attention and embeddings (distreal.md 2.8, 1 to 3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.derived_nets import VOCABULARY, TokenNet, TorchAttentionNet, group_normed, grouped
from support.small_nets import ResNet, shake
from torch import Tensor, nn

from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.learn.flat import flatten, load, manifest_of, views
from hocket.learn.sgd import TrainingRules
from hocket.learn.submodels.dropout import draw
from hocket.learn.submodels.fit import call
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import IndexPlan, plan_of
from hocket.learn.submodels.step import sliced_step

HARD = TrainingRules(1, 8, learning_rate=0.1, momentum=0.9, weight_decay=0.01, gradient_clip_norm=1)
GENTLE = TrainingRules(1, 8, learning_rate=0.1)
NETS: dict[str, Callable[[], nn.Module]] = {
    "grouped": lambda: grouped(8, 12, 6),
    "norms": lambda: group_normed(8, 12),
    "attention": lambda: TokenNet(8, heads=2),
    "fused": lambda: TokenNet(8, heads=2, fused="view"),
    "torch": lambda: TorchAttentionNet(8, heads=2),
}
# Norms over several channels see fewer of them in a slice, so only these equal masking.
MASKABLE = ["grouped", "attention", "fused"]


def batch(name: str, n: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(3, (n,), generator=generator)
    if name in {"grouped", "norms"}:
        return torch.randn((n, 1, 6, 6), generator=generator), labels
    return torch.randint(VOCABULARY, (n, 5), generator=generator).float(), labels


def dropped(net: nn.Module, rate: float, seed: int = 0) -> IndexPlan:
    graph = channel_graph(net)
    generator = torch.Generator().manual_seed(seed)
    return draw(graph, (rate,) * len(graph.groups), generator)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_without_dropout_it_is_torchs_sgd_bit_for_bit(name: str, rescale: bool) -> None:
    net = NETS[name]()
    shake(net)
    vector = flatten(net)
    velocity = torch.zeros_like(vector)
    inputs, labels = batch(name)
    whole = dropped(net, 0.0)
    ours = [
        sliced_step(
            net, vector, whole, (inputs, labels), HARD, velocity=velocity, rescale=rescale
        ).mean
        for _ in range(3)
    ]
    net.train()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    theirs = []
    for _ in range(3):
        sgd.zero_grad()
        loss = F.cross_entropy(net(inputs), labels)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        sgd.step()
        theirs.append(float(loss.detach()))
    assert ours == theirs
    assert torch.equal(vector, flatten(net))


@pytest.mark.parametrize("rate", [0.5, 0.7])
@pytest.mark.parametrize("name", MASKABLE)
def test_a_step_on_a_slice_is_one_on_the_full_net_with_the_rest_zeroed(
    name: str, rate: float
) -> None:
    """Loss and gradients of kept entries agree, and those of dropped entries are 0."""
    net = NETS[name]()
    shake(net)
    inputs, labels = batch(name)
    plan = dropped(net, rate)
    assert all(kept is not None for kept in plan.kept)
    vector = flatten(net)
    zeroed, held = plan.scatter(plan.extract(vector))
    assert held is not None
    load(net, zeroed)
    net.train()
    loss = F.cross_entropy(net(inputs), labels)
    torch.autograd.backward(loss)
    stepped = vector.clone()
    got = sliced_step(net, stepped, plan, (inputs, labels), GENTLE)
    assert got.mean == pytest.approx(float(loss.detach()), rel=1e-5)
    moved = views((vector - stepped) / 0.1, manifest_of(net))
    for tensor, parameter in net.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(moved[tensor], parameter.grad, rtol=1e-3, atol=2e-5)
    assert torch.equal(stepped[held == 0], vector[held == 0])


@pytest.mark.parametrize("name", NETS)
def test_what_is_dropped_keeps_its_bits(name: str) -> None:
    net = NETS[name]()
    shake(net)
    vector = flatten(net)
    velocity = torch.rand(vector.shape, generator=torch.Generator().manual_seed(4))
    plan = dropped(net, 0.5)
    _, held = plan.scatter(plan.extract(vector))
    assert held is not None
    before, speed = vector.clone(), velocity.clone()
    sliced_step(net, vector, plan, batch(name), HARD, velocity=velocity)
    kept = held.bool()
    assert torch.equal(vector[~kept], before[~kept])
    assert torch.equal(velocity[~kept], speed[~kept])
    # Momentum and decay move every kept weight, whether the batch used it or not.
    assert bool((vector[kept] != before[kept]).all())
    assert float(held.mean()) < 0.6


@pytest.mark.parametrize("rule", list(ChannelRule), ids=lambda rule: rule.name.lower())
@pytest.mark.parametrize("keep", [0.01, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", MASKABLE)
def test_a_slice_computes_what_the_full_net_does_with_the_rest_zeroed(
    name: str, keep: float, rule: ChannelRule
) -> None:
    """submodels.md 4.8 item 6."""
    net = NETS[name]()
    shake(net)
    plan = plan_of(channel_graph(net), SubmodelSpec((keep,), rule, 3))
    small = plan.extract(flatten(net))
    zeroed, _ = plan.scatter(small.clone())
    inputs, _ = batch(name)
    with torch.no_grad():
        whole = call(net, views(zeroed, manifest_of(net)), inputs)
        sliced = call(net, views(small, plan.sliced_manifest), inputs)
    torch.testing.assert_close(sliced, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keep", [0.0625, 0.125, 0.25, 0.3, 0.5, 0.7, 0.9])
def test_a_residual_net_steps_at_every_width(keep: float) -> None:
    """submodels.md 4.8 item 10: stages of 10, 20 and 41 channels keep ceil(keep * K)."""
    net = ResNet((10, 20, 41))
    shake(net)
    plan = plan_of(channel_graph(net), SubmodelSpec((keep,)))
    shapes = {tensor.name: tensor.shape for tensor in plan.sliced_manifest.tensors}
    tenth, wide = -(-round(1e4 * keep) * 10 // 10_000), -(-round(1e4 * keep) * 41 // 10_000)
    assert shapes["stem.weight"] == (tenth, 3, 3, 3)
    assert shapes["head.weight"] == (10, wide)
    generator = torch.Generator().manual_seed(1)
    examples = torch.randn((2, 3, 8, 8), generator=generator), torch.tensor([1, 0])
    vector = flatten(net)
    before = vector.clone()
    sliced_step(net, vector, plan, examples, GENTLE)
    assert not torch.equal(vector, before)


def test_a_layers_own_settings_come_back_after_a_step_that_fails() -> None:
    net = TorchAttentionNet(8, heads=2)
    plan = plan_of(channel_graph(net), SubmodelSpec((0.5,)))
    small = views(plan.extract(flatten(net)), plan.sliced_manifest)
    small["head.weight"] = torch.zeros(3, 3)
    inputs, _ = batch("torch")
    with pytest.raises(RuntimeError):
        call(net, small, inputs)
    assert net.attention.embed_dim == 8
    assert net.before.normalized_shape == (8,)
    assert net(inputs).shape == (8, 3)
