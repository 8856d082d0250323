"""The proximal term against its published value, autograd, and plain SGD on the longer loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.learners import EXAMPLES, Ledger, examples, model, terms
from support.strategies import push, vector
from torch import Tensor, nn

from hocket.core.chance import stream_seed
from hocket.core.sizing.size import Size, part_of
from hocket.core.terms import LocalTerms, TaskTerms
from hocket.learn.blueprint import Blueprint
from hocket.learn.codecs.payload import decode_payload
from hocket.learn.flat import flatten
from hocket.learn.local_learner import LocalLearner
from hocket.learn.local_rule import LocalFacts
from hocket.learn.sgd import TrainingRules, descend
from hocket.learn.strategies import FedAsync, FedNova, FedProx
from hocket.learn.strategies.proximal import Proximal, Tether
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import IndexPlan
from hocket.learn.submodels.step import sliced_step


def whole(_name: str, tensor: Tensor) -> Tensor:
    return tensor


def pull(half: Tether, at: Tensor) -> Tensor:
    """What the half adds to a gradient of 0."""
    gradients = {"w": torch.zeros_like(at)}
    half.correct(gradients, {"w": at}, whole)
    return gradients["w"]


def test_the_published_value() -> None:
    """Mu 0.1 and w - x = (3, 4) cost 1.25: what the added gradients come to on the way there."""
    away, half = torch.tensor([3.0, 4.0]), Tether(0.1, {"w": torch.tensor([7.0, -2.0])})
    steps = 100
    middles = [(step + 0.5) / steps for step in range(steps)]
    base = half.base["w"]
    cost = sum(float(pull(half, base + share * away) @ away) / steps for share in middles)
    assert cost == pytest.approx(1.25, rel=1e-6)


def test_the_gradient_is_that_of_the_squared_norm() -> None:
    chance = torch.Generator().manual_seed(1)
    base, at = torch.randn(2, 6, generator=chance)
    at.requires_grad_()
    term = 0.3 / 2 * torch.linalg.vector_norm(at - base) ** 2
    [expected] = torch.autograd.grad(term, at)
    assert torch.allclose(pull(Tether(0.3, {"w": base}), at.detach()), expected, atol=1e-6)


def told(local: LocalTerms) -> TaskTerms:
    usual = terms()
    return replace(usual, training=replace(usual.training, local=local), dropout_rows=())


def learned(told_: TaskTerms, keep: float = 1.0) -> Tensor:
    one = LocalLearner(Blueprint.of(model(), told_), examples(), Ledger(), name="d1")
    size = Size(part_of(keep))
    plan = one.blueprint.plan(size.spec)
    one.start_from(plan.extract(flatten(model())), 3, size=size)
    for epoch in (1, 2):
        one.train_epoch(epoch)
    return decode_payload(one.encode(), plan.sliced_manifest)


def test_training_is_sgd_on_the_loss_with_the_term() -> None:
    net, data = model(), examples()
    before = [weight.detach().clone() for weight in net.parameters()]
    start = flatten(net)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for epoch in (1, 2):
        chance = torch.Generator().manual_seed(stream_seed(1, "d1", "train", 3, epoch))
        for batch in torch.split(torch.randperm(EXAMPLES, generator=chance), 16):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(data.inputs[batch]), data.labels[batch])
            for weight, old in zip(net.parameters(), before, strict=True):
                loss = loss + 0.5 * 0.8 * (weight - old).square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    expected = flatten(net) - start
    found = learned(told(FedProx(mu=0.8).local))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(learned(told(LocalTerms())), expected, atol=1e-3)


def test_a_larger_mu_stays_nearer() -> None:
    lengths = [float(learned(told(FedProx(mu=mu).local)).norm()) for mu in (0.01, 1.0, 5.0)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[2] < 0.8 * lengths[0]


@pytest.mark.parametrize("rule", [FedProx(mu=0.0), FedAsync(), FedNova(momentum=0.5)])
def test_without_a_weight_devices_train_plainly(rule: FedProx | FedAsync | FedNova) -> None:
    assert rule.local == LocalTerms()
    assert Blueprint.of(model(), told(rule.local)).local is None


def test_all_three_methods_ask_for_the_same_term() -> None:
    expected = LocalTerms("proximal", (("mu", 0.1),))
    assert FedProx(mu=0.1).local == FedAsync(rho=0.1).local == FedNova(mu=0.1).local == expected
    assert Blueprint.of(model(), told(expected)).local == Proximal(0.1)


def test_where_filters_are_dropped_what_is_left_is_held() -> None:
    """One step from a model far from its base moves by mu (w - x) more than without the term."""
    net, data = model(), examples()
    graph = channel_graph(net)
    plan = IndexPlan(graph, (torch.tensor([0, 3, 9]), torch.arange(7)))
    base, far = flatten(net), flatten(model(seed=9))
    rules = TrainingRules(1, EXAMPLES, learning_rate=0.1)
    facts = LocalFacts(graph.manifest, 0.1, 0.0, None)
    ends = []
    for half in (None, Proximal(2.0).begin(base, None, {}, facts)):
        vector = far.clone()
        sliced_step(net, vector, plan, (data.inputs, data.labels), rules, half=half)
        ends.append(vector)
    _, held = plan.scatter(torch.zeros(plan.sliced_manifest.size))
    assert held is not None
    assert 0 < held.sum() < len(held)
    assert torch.allclose(ends[1] - ends[0], -0.1 * 2.0 * (far - base) * held, atol=1e-6)


def test_a_gradient_is_clipped_with_the_term_in_it() -> None:
    net, data = model(), examples()
    graph = channel_graph(net)
    base, far = flatten(net), flatten(model(seed=9))
    rules = TrainingRules(1, EXAMPLES, learning_rate=0.1, gradient_clip_norm=0.5)
    facts = LocalFacts(graph.manifest, 0.1, 0.0, None)
    vector = far.clone()
    everything = IndexPlan(graph, (None,) * len(graph.groups))
    half = Proximal(100.0).begin(base, None, {}, facts)
    sliced_step(net, vector, everything, (data.inputs, data.labels), rules, half=half)
    moved = vector - far
    assert float(moved.norm()) == pytest.approx(0.1 * 0.5, rel=1e-3)
    assert float(moved @ (base - far)) / float(moved.norm() * (base - far).norm()) > 0.99


def test_frozen_tensors_and_running_statistics_are_left_alone() -> None:
    half = Tether(1.0, {"w": torch.ones(2), "mean": torch.ones(2)})
    gradients = {"w": torch.zeros(2)}
    half.correct(gradients, {"w": torch.zeros(2), "mean": torch.zeros(2)}, whole)
    assert gradients.keys() == {"w"}
    assert gradients["w"].tolist() == [-1.0, -1.0]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_fednova_divides_by_what_steps_with_the_term_come_to(steps: int) -> None:
    """On a slope of 1, in learning rates."""
    rule = FedNova(mu=0.5)
    at = torch.zeros(1)
    rules = TrainingRules(1, 1, learning_rate=0.1)
    half = Tether(dict(rule.local.values)["mu"], {"w": torch.zeros(1)})
    for _ in range(steps):
        gradients = {"w": torch.ones(1)}
        half.correct(gradients, {"w": at}, whole)
        descend(at, gradients["w"], None, rules)
    header = push(vector(0.0), steps=steps, learning_rate=0.1).header
    assert rule.norm(header) == pytest.approx(-at.item() / 0.1, rel=1e-5)


def test_a_narrow_device_is_held_to_its_part() -> None:
    free, held = (learned(told(FedProx(mu=mu).local), keep=0.5) for mu in (0.0, 5.0))
    assert 0 < float(held.norm()) < 0.8 * float(free.norm())
