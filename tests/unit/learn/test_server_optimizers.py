"""Optimizers on a round's average: by hand on the published 4x4 example, and against torch's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.strategies import Server, bits, push, server, vector
from torch import Tensor

from hocket.core.ids import Version
from hocket.core.strategy import Global
from hocket.core.update import Update
from hocket.errors import CorruptState
from hocket.learn.strategies import FedAvg, FedNova, FedProx
from hocket.learn.strategies.holders import Holders
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.server import Adam, Average, Sgd, advance

BLOCK = torch.zeros(4, 4)
BLOCK[:2, :2] = 1  # what a device of rate 1/2 holds of a 4x4 tensor
INSIDE, OUTSIDE = 0, -1  # places in the flat vector
EQUAL = Parts(weights="equal")
RULES = (FedAvg, FedProx, FedNova)


def whole(value: float, device: str, base: int) -> Update[Tensor]:
    return push(torch.full((16,), value), base=base, device=device)


def block(value: float, device: str, base: int) -> Update[Tensor]:
    held = BLOCK.reshape(-1)
    return push(held * value, base=base, device=device, held=held)


def ends_of_rounds(rule: Any) -> list[tuple[float, float]]:
    """Inside and outside of the block, after rounds whose mean there is (2, 1), (3, -), (1, 1)."""
    aggregator = server(rule, *([0.0] * 16))
    rounds = [
        (whole(1, "a", 1), block(3, "b", 1)),
        (block(3, "a", 2), block(3, "b", 2)),
        (whole(1, "a", 3), whole(1, "b", 3)),
    ]
    found = []
    for updates in rounds:
        for update in updates:
            aggregator.take(update)
        model = aggregator.now.model
        found.append((model[INSIDE].item(), model[OUTSIDE].item()))
    assert aggregator.now.version == 4
    return found


@pytest.mark.parametrize("kind", RULES)
def test_momentum_by_hand(kind: Any) -> None:
    """lr and momentum 1/2. Inside u = 2, 1 + 3 = 4, 2 + 1 = 3; outside u = 1, still 1, 1.5."""
    rule = kind(cohort=2, parts=EQUAL, server=Sgd(lr=0.5, momentum=0.5))
    assert ends_of_rounds(rule) == [(1.0, 0.5), (3.0, 0.5), (4.5, 1.25)]


@pytest.mark.parametrize("kind", RULES)
def test_adam_by_hand(kind: Any) -> None:
    """Its defaults: lr and tau 0.01, beta1 0.9, beta2 0.99.

    Inside m = 0.2, v = 0.04; m = 0.18 + 0.3 = 0.48, v = 0.0396 + 0.09 = 0.1296 = 0.36^2;
    m = 0.432 + 0.1 = 0.532, v = 0.128304 + 0.01. Outside m = 0.1, v = 0.01; both stay;
    m = 0.09 + 0.1 = 0.19, v = 0.0099 + 0.01 = 0.0199.
    """
    steps_inside = [0.002 / 0.21, 0.0048 / 0.37, 0.00532 / (math.sqrt(0.138304) + 0.01)]
    steps_outside = [0.001 / 0.11, 0.0, 0.0019 / (math.sqrt(0.0199) + 0.01)]
    expected = [(sum(steps_inside[:t]), sum(steps_outside[:t])) for t in (1, 2, 3)]
    found = ends_of_rounds(kind(cohort=2, parts=EQUAL, server=Adam()))
    for mine, by_hand in zip(found, expected, strict=True):
        assert mine == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("kind", RULES)
def test_a_damped_mean_is_what_the_optimizer_takes(kind: Any) -> None:
    """Outside one of two holds it: D = 1/2, so m = 0.05, v = 0.0025; inside D = 2 as ever."""
    aggregator = server(kind(cohort=2, parts=Parts("equal", damped=True), server=Adam()), *[0] * 16)
    aggregator.take(whole(1, "a", 1))
    aggregator.take(block(3, "b", 1))
    assert aggregator.now.model[INSIDE].item() == pytest.approx(0.002 / 0.21, rel=1e-5)
    assert aggregator.now.model[OUTSIDE].item() == pytest.approx(0.0005 / 0.06, rel=1e-5)


SCALES = (1.0, 1e-3, 10.0, 1e-6, 0.1, 0.0, 1e-2)
WEIGHTS = (1, 4, 3)


def against_torch(kind: Any, told: Any, optimizer: torch.optim.Optimizer, each_round: Any) -> None:
    """Rounds of whole models; the gradient that torch descends is minus their mean, by examples."""
    chance = torch.Generator().manual_seed(3)
    (weight,) = optimizer.param_groups[0]["params"]
    aggregator = Server(kind(cohort=3, server=told), Global(weight.detach().float()))
    for t, scale in enumerate(SCALES, start=1):
        pushed = scale * torch.randn(3, len(weight), generator=chance)
        for number, (delta, examples) in enumerate(zip(pushed, WEIGHTS, strict=True)):
            aggregator.take(push(delta, base=t, device=str(number), examples=examples, steps=5))
        shares = torch.tensor(WEIGHTS, dtype=torch.float64) / sum(WEIGHTS)
        weight.grad = -(shares @ pushed.double())
        each_round(optimizer, t)
        optimizer.step()
        assert torch.allclose(aggregator.now.model.double(), weight.detach(), rtol=1e-5, atol=1e-6)
    assert aggregator.now.version == 1 + len(SCALES)


def half(size: int = 6) -> Tensor:
    return torch.full((size,), 0.5, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_a_history_equals_torchs_sgd(kind: Any, momentum: float) -> None:
    """Which begins with u = g, as does momentum 0 + g, and does not dampen g."""
    sgd = torch.optim.SGD([half()], 0.3, momentum=momentum)
    against_torch(kind, Sgd(0.3, momentum), sgd, lambda *_: None)


@pytest.mark.parametrize("kind", RULES)
def test_a_history_equals_torchs_adam(kind: Any) -> None:
    """Torch corrects its moments for their start from 0, which lr and eps take back here:

    x -= lr / (1 - beta1^t) m / (sqrt(v) / c + eps) with c = sqrt(1 - beta2^t); with
    lr (1 - beta1^t) / c for lr and tau / c for eps that is lr m / (sqrt(v) + tau).
    """

    def take_back(adam: torch.optim.Optimizer, t: int) -> None:
        correction = math.sqrt(1 - 0.95**t)
        adam.param_groups[0]["lr"] = 0.03 * (1 - 0.8**t) / correction
        adam.param_groups[0]["eps"] = 1e-3 / correction

    adam = torch.optim.Adam([half()], betas=(0.8, 0.95))
    against_torch(kind, Adam(0.03, 0.8, 0.95, 1e-3), adam, take_back)


def test_plain_descent_at_a_rate_of_one_is_the_mean_bit_for_bit() -> None:
    chance = torch.Generator().manual_seed(5)
    deltas, masks = torch.randn(4, 3, 50, generator=chance), torch.rand(3, 50, generator=chance)
    ends = []
    for told in (Average(), Sgd()):
        aggregator = Server(FedAvg(3, server=told), Global(torch.linspace(-1, 1, 50)))
        for base, pushed in enumerate(deltas, start=1):
            for number, (delta, mask) in enumerate(zip(pushed, masks, strict=True)):
                held = mask.gt(0.6).float()
                update = push(delta * held, base=base, device=str(number), held=held)
                aggregator.take(update)
        ends.append(bits(aggregator.now.model))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("told", [Sgd(lr=0.5, momentum=0.9), Adam()], ids=lambda each: each.kind)
@pytest.mark.parametrize("kind", RULES)
def test_what_nobody_holds_keeps_its_value_and_its_moments(kind: Any, told: Any) -> None:
    rule = kind(cohort=2, server=told)
    aggregator = server(rule, *([0.5] * 16))
    for device in "ab":
        aggregator.take(whole(3, device, 1))
    model, moments = aggregator.now.model, rule.keep(aggregator.memory).tensors
    assert len(moments) == len(told.remembers) > 0
    for base in (2, 3, 4):
        for device in "ab":
            aggregator.take(block(-1, device, base))
    after = rule.keep(aggregator.memory).tensors
    outside = BLOCK.reshape(-1) == 0
    for was, now in ((model, aggregator.now.model), *((moments[n], after[n]) for n in moments)):
        assert bits(was[outside]) == bits(now[outside])
        assert (was != now)[~outside].all()


def test_who_has_nothing_to_remember_keeps_nothing() -> None:
    for told in (Average(), Sgd(lr=0.5)):
        aggregator = server(FedAvg(1, server=told), 1.0)
        aggregator.take(push(vector(2.0)))
        assert aggregator.rule.keep(aggregator.memory).tensors == {}
    assert aggregator.now.model.item() == 2.0


def test_another_optimizers_memory_is_refused() -> None:
    known: list[Any] = [Average(), Sgd(momentum=0.9), Adam()]
    for one in known:
        aggregator = server(FedAvg(2, server=one), 1.0)
        aggregator.take(push(vector(2.0)))
        kept = aggregator.rule.keep(aggregator.memory)
        for other in known:
            if other is not one:
                with pytest.raises(CorruptState, match="begin anew"):
                    FedAvg(2, server=other).recall(kept, vector(1.0))


@pytest.mark.parametrize("optimizer", [Sgd(0.5, 0.9), Adam()], ids=["sgd", "adam"])
def test_where_an_entry_lies_makes_no_difference(optimizer: Sgd | Adam) -> None:
    """Two halves that are alike move alike, idle entries among them, in more than one block."""
    half = 150_016
    one = torch.randn(half, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    part = (torch.arange(half) % 3 > 0).double()
    by, holders = torch.cat([one, one]), Holders(0, torch.cat([part, part]))
    now = Global(torch.linspace(-1, 1, half).repeat(2), Version(1))
    moments = {name: torch.full((2 * half,), 0.25) for name in optimizer.remembers}
    after, moved = advance(optimizer, now, by, holders, moments)
    for found in (after.model, *moved.values()):
        assert torch.equal(found[:half], found[half:])
        idle = found[:half][part == 0]
        before = now.model if found is after.model else moments[optimizer.remembers[0]]
        assert torch.equal(idle, before[:half][part == 0])
        assert not torch.equal(found[:half], before[:half])
