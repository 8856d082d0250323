"""FedNova against its published example and its norms, each by another way of computing."""

from __future__ import annotations

import pytest
import torch
from support.strategies import push, server, vector

from hocket.core.ids import Version
from hocket.core.update import Applied, Buffered
from hocket.errors import InvalidUpdate
from hocket.learn.strategies import FedAvg, FedNova


def test_the_published_example() -> None:
    """n = 100, 300, steps 2, 6, deltas 1, 6: T = 5, so 5 (1/4 * 1/2 + 3/4 * 1) = 4.375."""
    aggregator = server(FedNova(cohort=2), 0.0)
    first = aggregator.take(push(vector(1.0), device="a", examples=100, steps=2))
    second = aggregator.take(push(vector(6.0), device="b", examples=300, steps=6))
    assert first == Buffered(Version(2), 1.0, 0, 1, 2)
    assert second == Applied(Version(2), 0.75, 0)
    assert aggregator.now.model.item() == 4.375


@pytest.mark.parametrize("rule", [FedNova(cohort=2), FedNova(cohort=2, momentum=0.9)])
def test_equal_steps_are_fedavg(rule: FedNova) -> None:
    aggregator, average = server(rule, 0.0), server(FedAvg(cohort=2), 0.0)
    for each in (aggregator, average):
        each.take(push(vector(1.0), device="a", examples=100, steps=7))
        each.take(push(vector(6.0), device="b", examples=300, steps=7))
    assert average.now.model.item() == 4.75
    assert aggregator.now.model.item() == pytest.approx(4.75, rel=1e-6)


def after_steps(count: int, momentum: float, mu: float, learning_rate: float) -> float:
    """How far torch's own SGD has gone on a slope of 1, in learning rates: that is |a|.

    The proximal term mu / 2 (w - 0)^2 of a start from 0 has the gradient of a weight decay.
    """
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([weight], learning_rate, momentum=momentum, weight_decay=mu)
    for _ in range(count):
        weight.grad = torch.ones(1, dtype=torch.float64)
        sgd.step()
    return -weight.item() / learning_rate


@pytest.mark.parametrize(
    ("momentum", "mu"),
    [(0.0, 0.0), (0.5, 0.0), (0.9, 0.0), (0.999, 0.0), (0.0, 0.1), (0.0, 1.9), (0.0, 1e-9)],
)
@pytest.mark.parametrize("steps", [1, 2, 6, 50])
def test_the_norm_is_what_the_steps_of_sgd_come_to(momentum: float, mu: float, steps: int) -> None:
    rule = FedNova(momentum=momentum, mu=mu)
    header = push(vector(0.0), steps=steps, learning_rate=0.5).header
    assert rule.norm(header) == pytest.approx(after_steps(steps, momentum, mu, 0.5), rel=1e-6)


def test_the_norm_with_momentum_by_hand() -> None:
    """Rho 0.5, two steps: the first gradient counts 1 + 0.5, the second 1."""
    assert FedNova(momentum=0.5).norm(push(vector(0.0), steps=2).header) == pytest.approx(2.5)


def test_the_norm_with_a_proximal_term_by_hand() -> None:
    """Eta mu = 0.05, two steps: the first gradient has shrunk by 0.95."""
    header = push(vector(0.0), steps=2, learning_rate=0.1).header
    assert FedNova(mu=0.5).norm(header) == pytest.approx(1.95)


def test_endless_steps_have_a_norm() -> None:
    header = push(vector(0.0), steps=1 << 62, learning_rate=0.1).header
    assert FedNova(mu=0.5).norm(header) == pytest.approx(1 / 0.05)
    assert FedNova(momentum=0.5).norm(header) == pytest.approx(2.0**63)


def test_each_entry_is_averaged_over_its_holders() -> None:
    """Entry 0: T = 5 and 5 (1/4 * 1/2 + 3/4) = 4.375; entry 1: b alone, 6; entry 2: nobody."""
    aggregator = server(FedNova(cohort=2), 10.0, 10.0, 10.0)
    masks = vector(1, 0, 0), vector(1, 1, 0)
    aggregator.take(push(vector(1, 0, 0), device="a", examples=100, steps=2, held=masks[0]))
    aggregator.take(push(vector(6, 6, 0), device="b", examples=300, steps=6, held=masks[1]))
    assert aggregator.now.model.tolist() == pytest.approx([14.375, 16.0, 10.0])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"examples": 0}, "num_examples is 0"),
        ({"steps": 0}, "num_steps is 0"),
        ({"learning_rate": 2.5}, "learning_rate is 2.5; with mu 0.5"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": -0.1}, "at least 0 and below 2"),
    ],
)
def test_a_header_that_gives_no_weight_is_refused(header: dict[str, float], message: str) -> None:
    aggregator = server(FedNova(cohort=1, mu=0.5), 0.0)
    with pytest.raises(InvalidUpdate, match=message):
        aggregator.take(push(vector(1.0), **header))  # type: ignore[arg-type]
    assert aggregator.now.version == 1
    aggregator.take(push(vector(2.0)))
    assert aggregator.now.model.item() == 2.0
