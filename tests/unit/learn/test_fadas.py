"""FADAS against torch's AMSGrad and by hand, and its learning rate against the table."""

from __future__ import annotations

import math

import pytest
import torch
from support.strategies import push, server, vector

from hocket.learn.strategies import Fadas


def test_two_steps_by_hand() -> None:
    """D = 2, then 0, with lr 0.1, beta1 0.9, beta2 0.99, and eps 0.5.

    m = 0.2, v = u = 0.04: x = 0.1 * 0.2 / (0.2 + 0.5). m = 0.18, v = 0.0396 < u = 0.04:
    x += 0.1 * 0.18 / 0.7.
    """
    aggregator = server(Fadas(goal=2, server_lr=0.1, eps=0.5), 0.0)
    for delta in (1.0, 3.0):
        aggregator.take(push(vector(delta)))
    assert aggregator.now.model.item() == pytest.approx(0.02 / 0.7)
    for delta in (4.0, -4.0):
        aggregator.take(push(vector(delta), base=2))
    assert aggregator.now.model.item() == pytest.approx(0.02 / 0.7 + 0.018 / 0.7)


def test_a_history_equals_torchs_amsgrad() -> None:
    """The gradient is minus the mean delta. Torch corrects its moments for their start from 0:

    x -= lr / (1 - beta1^t) m / (sqrt(u) / c + eps) with c = sqrt(1 - beta2^t); with
    lr (1 - beta1^t) / c for lr and eps / c for eps that is lr m / (sqrt(u) + eps).
    """
    generator = torch.Generator().manual_seed(3)
    scales = [1.0, 1e-3, 10.0, 1e-6, 0.1, 0.0, 1e-2]
    aggregator = server(Fadas(goal=2, server_lr=0.03), *[0.5] * 6)
    weight = torch.full((6,), 0.5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weight], betas=(0.9, 0.99), amsgrad=True)
    for t, scale in enumerate(scales, 1):
        pushed = scale * torch.randn(2, 6, generator=generator)
        for delta in pushed:
            aggregator.take(push(delta, base=t))
        correction = math.sqrt(1 - 0.99**t)
        adam.param_groups[0]["lr"] = 0.03 * (1 - 0.9**t) / correction
        adam.param_groups[0]["eps"] = 1e-8 / correction
        weight.grad = -pushed.double().mean(dim=0)
        adam.step()
        assert torch.allclose(aggregator.now.model.double(), weight.detach(), rtol=1e-5, atol=1e-7)
    assert aggregator.now.version == 1 + len(scales)


@pytest.mark.parametrize(
    ("server_lr", "tau", "expected"),
    [
        (0.5, 0, 0.5),
        (0.5, 10, 0.5),  # the limit itself
        (0.5, 11, 1 / 11),
        (0.5, 20, 0.05),
        (0.01, 20, 0.01),  # 1 / tau is no slower
    ],
)
def test_the_stalest_update_sets_the_learning_rate(
    server_lr: float, tau: int, expected: float
) -> None:
    """With D = 1 the first step is lr * 0.1 / (sqrt(0.01) + eps) = lr, up to eps / 0.1 = 1e-7."""
    aggregator = server(Fadas(goal=3, server_lr=server_lr), 0.0, version=30)
    aggregator.versions[30 - tau] = vector(0.0)
    for base in (30, 30 - tau, 30):
        aggregator.take(push(vector(1.0), base=base))
    assert aggregator.now.model.item() == pytest.approx(expected, rel=1e-6)


def test_a_stale_buffer_does_not_slow_the_next() -> None:
    aggregator = server(Fadas(goal=1, server_lr=0.5, beta1=0.0, beta2=0.0), 0.0, version=30)
    aggregator.versions[10] = vector(0.0)
    aggregator.take(push(vector(1.0), base=10))
    aggregator.take(push(vector(1.0), base=31))
    assert aggregator.now.model.item() == pytest.approx(0.05 + 0.5, rel=1e-6)


def test_an_entry_that_never_moves_stays() -> None:
    aggregator = server(Fadas(goal=1), 3.0, 4.0)
    for version in range(1, 5):
        aggregator.take(push(vector(0.0, 1.0), base=version))
    assert aggregator.now.model[0].item() == 3.0
    assert aggregator.now.model[1].item() > 4.0
