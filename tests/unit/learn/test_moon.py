"""MOON's contrast against its published value and autograd, and what a device remembers for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.learners import EXAMPLES, Ledger, examples, terms
from support.small_nets import ResNet
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from hocket.core.chance import stream_seed
from hocket.core.sizing.size import part_of
from hocket.core.terms import LocalTerms, TaskTerms
from hocket.errors import ModelError, NotFinite, ShapeMismatch
from hocket.learn.blueprint import Blueprint
from hocket.learn.codecs.payload import decode_payload
from hocket.learn.features import Features
from hocket.learn.flat import flatten, load, manifest_of, views
from hocket.learn.local_learner import LocalLearner
from hocket.learn.local_memory import LocalMemory
from hocket.learn.strategies import Moon
from hocket.learn.strategies.moon import contrast


def net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))


def told(local: LocalTerms, module: nn.Module | None = None) -> TaskTerms:
    usual = terms(module or net())
    return replace(
        usual,
        training=replace(usual.training, local=local),
        encoding=replace(usual.encoding, error_feedback=False),  # refused updates are not resent
        dropout_rows=(),
    )


def learner(rule: Moon, memory: LocalMemory | None = None) -> LocalLearner:
    blueprint = Blueprint.of(net(), told(rule.local))
    return LocalLearner(blueprint, examples(), Ledger(), name="d1", memory=memory)


def trained(one: LocalLearner, base: Tensor, training: int) -> Tensor:
    """The local model after one epoch."""
    one.start_from(base, training)
    one.train_epoch(1)
    return base + decode_payload(one.encode(), manifest_of(net()))


def test_the_published_value() -> None:
    z = torch.tensor([[1.0, 0.0]])
    near, far = torch.tensor([[0.8, 0.6]]), torch.tensor([[0.2, 0.96**0.5]])
    assert contrast(z, near, far, 0.5).item() == pytest.approx(0.263282, abs=1e-6)
    # lengths do not count, and a mini-batch counts by its mean
    both = contrast(torch.cat((z, z)), torch.cat((near, far)), torch.cat((3 * far, near)), 0.5)
    assert both.item() == pytest.approx((0.263282 + 1.463282) / 2, abs=1e-6)


def by_hand(start: Tensor, last: Tensor | None, mu: float, temperature: float) -> Tensor:
    """One epoch by torch's own means, as equation 3 is written."""
    one, data = net(), examples()
    load(one, start)
    frozen, before = net(), net()
    load(frozen, start)
    load(before, start if last is None else last)
    optimiser = torch.optim.SGD(one.parameters(), lr=0.1)
    training = 1 if last is None else 2
    chance = torch.Generator().manual_seed(stream_seed(1, "d1", "train", training, 1))
    for batch in torch.split(torch.randperm(EXAMPLES, generator=chance), 16):
        inputs = data.inputs[batch]
        z = one[:3](inputs)
        loss = cross_entropy(one[3](z), data.labels[batch])
        if last is not None:
            with torch.no_grad():
                z_glob, z_prev = frozen[:3](inputs), before[:3](inputs)
            near = torch.exp(cosine_similarity(z, z_glob) / temperature)
            far = torch.exp(cosine_similarity(z, z_prev) / temperature)
            loss = loss - mu * torch.log(near / (near + far)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return flatten(one)


def test_the_first_training_is_plain_and_the_second_contrasts_with_it() -> None:
    one = learner(Moon(mu=5.0, temperature=0.5))
    first, second = flatten(net()), flatten(net(seed=3))
    last = trained(one, first, 1)
    assert torch.allclose(last, by_hand(first, None, 5.0, 0.5), atol=1e-6)
    assert torch.allclose(one.kept["model"], last, atol=1e-6)
    expected = by_hand(second, last, 5.0, 0.5)
    found = trained(one, second, 2)
    assert torch.allclose(found, expected, atol=1e-5)
    plain = trained(learner(Moon(mu=0.0)), second, 2)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_the_loss_that_is_told_is_without_the_term() -> None:
    losses = []
    for mu in (0.0, 5.0):
        one = learner(Moon(mu=mu), LocalMemory({"model": flatten(net(seed=4))}))
        one.start_from(flatten(net()), 2)
        batch = torch.arange(16)
        losses.append(one.trainer.step(batch, None, torch.Generator()).mean)
    assert losses[0] == losses[1]


def test_what_is_kept_of_an_update_that_is_not_used_is_the_model_before() -> None:
    one = learner(Moon())
    first = trained(one, flatten(net()), 1)
    trained(one, flatten(net()), 2)
    assert not torch.equal(one.kept["model"], first)
    one.put_back()
    assert torch.allclose(one.kept["model"], first, atol=1e-6)
    one.put_back()  # and once is as good as twice
    assert torch.allclose(one.kept["model"], first, atol=1e-6)
    third = trained(one, flatten(net()), 3)
    one.start_from(flatten(net()), 4)
    one.forget()  # the base is one of long ago: the last model is still the last
    assert torch.allclose(one.kept["model"], third, atol=1e-6)


def test_a_training_that_comes_to_nothing_keeps_nothing() -> None:
    one = learner(Moon())
    trained(one, flatten(net()), 1)
    before = one.kept
    one.start_from(flatten(net()), 2)
    one.train_epoch(1)
    one.trainer.start(torch.full_like(flatten(net()), float("inf")))
    with pytest.raises(NotFinite):
        one.encode()
    assert one.kept is before


def test_a_new_learner_goes_on_with_the_memory_of_the_old() -> None:
    base = flatten(net())
    straight, memory = learner(Moon()), LocalMemory()
    for training in (1, 2, 3):
        expected = trained(straight, base, training)
        found = trained(learner(Moon(), memory), base, training)
        assert torch.equal(found, expected)


def test_memory_of_another_model_is_refused() -> None:
    one = learner(Moon(), LocalMemory({"model": torch.zeros(3)}))
    with pytest.raises(ShapeMismatch):
        one.start_from(flatten(net()), 1)


def test_a_model_without_a_linear_layer_has_no_features() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Bilinear(1, 1, 10))
    with pytest.raises(ModelError, match=r"no torch\.nn\.Linear"):
        Blueprint.of(module, told(Moon().local, module))


class Unused(nn.Module):
    """Its last linear layer takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.spare = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(x.flatten(1))
        return scores


def test_a_last_linear_layer_that_is_not_used_is_named() -> None:
    module = Unused()
    blueprint = Blueprint.of(module, told(Moon().local, module))
    one = LocalLearner(blueprint, examples(), Ledger())
    one.start_from(flatten(module), 1)
    with pytest.raises(ModelError, match="not used in its forward pass"):
        one.train_epoch(1)


def test_any_module_has_features_and_looking_at_them_changes_nothing() -> None:
    module = ResNet((4, 8))
    watched = Features.of(module)
    tensors = views(flatten(module), manifest_of(module))
    before = flatten(module)
    module.train()
    inputs = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    seen = watched(tensors, inputs)
    assert seen.shape == (5, watched.layer.in_features)
    assert not seen.requires_grad
    assert torch.equal(flatten(module), before)
    assert module.training
    assert not watched.layer._forward_pre_hooks
    module.eval()
    scores = torch.nn.functional.linear(seen, watched.layer.weight, watched.layer.bias)
    assert torch.allclose(module(inputs), scores, atol=1e-6)


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_part_of_a_model_is_refused_with_the_way_out(keep: float) -> None:
    blueprint = Blueprint.of(net(), told(Moon().local))
    with pytest.raises(ModelError, match=r"contrastive.*share of 1"):
        blueprint.plan(part_of(keep))


def test_dropped_filters_are_refused_with_the_way_out() -> None:
    rows = replace(told(Moon().local), dropout_rows=((0.5,),))
    with pytest.raises(ModelError, match="submodel = 'full'"):
        Blueprint.of(net(), rows)
