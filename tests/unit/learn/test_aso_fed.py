"""ASO-Fed's two halves, each against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from support.learners import Ledger, delta, examples, model, raw, terms
from support.strategies import push, server, vector
from torch import Tensor

from hocket.core.ids import Version
from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.sizing.size import part_of
from hocket.core.update import Applied
from hocket.errors import InvalidUpdate, ModelError, ShapeMismatch
from hocket.learn.blueprint import Blueprint
from hocket.learn.flat import flatten, manifest_of
from hocket.learn.local_learner import LocalLearner
from hocket.learn.local_memory import LocalMemory
from hocket.learn.local_rule import LocalFacts
from hocket.learn.strategies import AsoFed, FedAvg
from hocket.learn.strategies.aso_fed import Decayed, Decaying

ONE = Manifest((TensorSpec("w", (1,)),))


def test_two_arrivals_of_one_device() -> None:
    """x 1, delta 2, share 1/4: 1.5. From there delta 1: its model goes from 3 to 2.5: 1.375."""
    aggregator = server(AsoFed(devices=4), 1.0)
    assert aggregator.take(push(vector(2.0), base=1)) == Applied(Version(2), 0.25, 0)
    assert aggregator.now.model.item() == 1.5
    assert aggregator.take(push(vector(1.0), base=2)) == Applied(Version(3), 0.25, 0)
    assert aggregator.now.model.item() == 1.375


def test_a_stale_arrival_counts_from_its_own_base() -> None:
    """b starts from 1, where a has moved x to 1.5: b's model is 5, and 4 of it is new."""
    aggregator = server(AsoFed(devices=4), 1.0)
    aggregator.take(push(vector(2.0), base=1, device="a"))
    assert aggregator.take(push(vector(4.0), base=1, device="b")).tau == 1
    assert aggregator.now.model.item() == 2.5


def test_a_device_counts_by_its_examples_of_what_the_fleet_is_thought_to_have() -> None:
    """After a with 10 and b with 30 examples the mean is 20, a fleet of 4 has 80, b's share 3/8."""
    aggregator = server(AsoFed(devices=4), 0.0)
    first = aggregator.take(push(vector(1.0), base=1, device="a", examples=10))
    second = aggregator.take(push(vector(1.0), base=2, device="b", examples=30))
    third = aggregator.take(push(vector(1.0), base=3, device="a", examples=50))
    assert [outcome.weight for outcome in (first, second, third)] == [  # type: ignore[union-attr]
        0.25,
        0.375,
        pytest.approx(50 / 160),  # a has 50 now, so the mean is 40
    ]


def test_more_devices_than_were_said_count_as_the_fleet() -> None:
    aggregator = server(AsoFed(devices=1), 0.0)
    weights = [
        aggregator.take(push(vector(1.0), base=n + 1, device=name)).weight  # type: ignore[union-attr]
        for n, name in enumerate("abc")
    ]
    assert weights == pytest.approx([1.0, 1 / 2, 1 / 3])


def test_rounds_of_everybody_are_fedavg() -> None:
    chance = torch.Generator().manual_seed(3)
    one, other = server(AsoFed(devices=3), 1.0, -2.0), server(FedAvg(cohort=3), 1.0, -2.0)
    for _ in range(4):
        base = one.now.version, other.now.version
        for name in "abc":
            update = torch.randn(2, generator=chance)
            one.take(push(update, base=base[0], device=name, examples=7))
            other.take(push(update, base=base[1], device=name, examples=7))
        assert torch.allclose(one.now.model, other.now.model, atol=1e-5)


def test_an_update_without_examples_is_refused_and_leaves_no_trace() -> None:
    aggregator = server(AsoFed(), 1.0)
    with pytest.raises(InvalidUpdate, match="num_examples is 0"):
        aggregator.take(push(vector(1.0), examples=0))
    assert aggregator.rule.keep(aggregator.memory).facts == {"kind": "asofed", "devices": []}


def begin(
    base: float, kept: dict[str, Tensor] | None = None, delay_s: float = 0.0, lambda_: float = 0.0
) -> Decaying:
    facts = LocalFacts(ONE, 0.1, delay_s, None)
    return Decayed(beta=0.5, lambda_=lambda_).begin(vector(base), None, kept or {}, facts)


def corrected(half: Decaying, gradient: float, at: float = 0.0) -> float:
    gradients = {"w": vector(gradient)}
    half.correct(gradients, {"w": vector(at)}, lambda _, tensor: tensor)
    return gradients["w"].item()


def test_three_steps_by_hand() -> None:
    """g 1, 2, 4: 1 - 0 + 0, then h 0; 2 - 1 + 0, then h 0.5; 4 - 2 + 0.5, then h 1.25."""
    half = begin(0.0)
    assert [corrected(half, g) for g in (1.0, 2.0, 4.0)] == [1.0, 1.0, 2.5]
    kept, extra = half.end(vector(0.0), 3)
    assert {name: value.item() for name, value in kept.items()} == {"average": 1.25, "gradient": 4}
    assert extra is None
    again = begin(0.0, dict(kept))
    assert corrected(again, 1.0) == 1.0 - 4.0 + 1.25
    assert kept["average"].item() == 1.25  # what is kept is not changed


def test_the_proximal_term_is_part_of_the_gradient() -> None:
    assert corrected(begin(1.0, lambda_=0.5), 1.0, at=5.0) == 1.0 + 0.5 * 4.0


@pytest.mark.parametrize(
    ("delay_s", "factor"), [(0.0, 1.0), (0.2, 1.0), (2.7, 1.0), (100.0, 4.60517), (math.e**2, 2.0)]
)
def test_a_slow_device_takes_longer_steps(delay_s: float, factor: float) -> None:
    assert corrected(begin(0.0, delay_s=delay_s), 1.0) == pytest.approx(factor, rel=1e-5)


def told(beta: float = 0.5) -> Blueprint:
    usual = terms()
    local = AsoFed(lambda_=0.0, beta=beta).local
    training = replace(usual.training, local=local, batch_size=64)
    return Blueprint.of(model(), replace(usual, training=training, dropout_rows=()))


def learner(memory: LocalMemory | None = None) -> LocalLearner:
    return LocalLearner(told(), examples(), Ledger(), name="d1", memory=memory)


def one_step(one: LocalLearner, training: int) -> Tensor:
    one.start(raw(flatten(model()), manifest_of(model())), training)
    assert one.train_epoch(1).steps == 1
    return delta(one.encode())


def test_the_mean_delay_is_measured_from_training_to_training() -> None:
    quick, slow = learner(), learner()
    slow.settled(math.e**2 - 4.0)
    slow.settled(math.e**2 + 4.0)
    assert torch.allclose(one_step(slow, 1), 2.0 * one_step(quick, 1), atol=1e-7)
    assert slow.kept["delays"].tolist() == pytest.approx([2 * math.e**2, 2.0])
    again = learner(LocalMemory(slow.kept))
    assert again.memory.mean_delay_s == pytest.approx(math.e**2)


def test_the_second_training_goes_on_from_the_gradient_of_the_first() -> None:
    """The same model and examples: g - g' is 0, and h is still 0, so it stands still."""
    one = learner()
    first = one_step(one, 1)
    assert float(first.norm()) > 0.01
    assert float(one_step(one, 2).norm()) < 1e-5 * float(first.norm())
    one.put_back()  # had it not been, the step after the first would be this same one
    assert float(one_step(one, 3).norm()) < 1e-5 * float(first.norm())
    assert torch.allclose(one_step(one, 4), 0.5 * first, atol=1e-6)  # h is g / 2 now


def test_memory_of_another_model_is_refused() -> None:
    with pytest.raises(ShapeMismatch):
        begin(0.0, {"average": vector(1, 2)})


def test_a_part_of_a_model_is_refused() -> None:
    with pytest.raises(ModelError, match="decayed"):
        told().plan(part_of(0.5))
