"""PORT against its published example: staleness, agreement with the last step, submodels."""

from __future__ import annotations

import pytest
import torch
from support.strategies import Server, push, server, vector

from hocket.core.update import Applied, Buffered, Update
from hocket.errors import InvalidUpdate
from hocket.learn.strategies import Port


def after_a_step(rule: Port, direction: torch.Tensor) -> Server:
    """A server at version 20 whose last step went in that direction."""
    aggregator = server(Port(minimum=1), *[0.0] * len(direction), version=19)
    aggregator.take(push(direction, base=19))
    aggregator.versions |= dict.fromkeys(range(1, 19), aggregator.versions[19])
    aggregator.rule = rule
    return aggregator


def moved(aggregator: Server, *updates: Update[torch.Tensor]) -> torch.Tensor:
    before = aggregator.now.model
    outcomes = [aggregator.take(update) for update in updates]
    assert isinstance(outcomes[-1], Applied)
    return aggregator.now.model - before


def test_the_published_example() -> None:
    """Equal n, tau 0 and 10, cos 1 and -1, S = 10: 3 + 1 = 4.0 and 3 * 10 / 20 + 0 = 1.5."""
    assert Port().factor(0, 1.0) == 4.0
    assert Port().factor(10, -1.0) == 1.5
    aggregator = after_a_step(Port(minimum=2), vector(3, 0))
    step = moved(
        aggregator,
        push(vector(2, 0), base=20, device="a"),
        push(vector(-7, 0), base=10, device="b"),
    )
    assert step[0].item() == pytest.approx((4.0 * 2 - 1.5 * 7) / 5.5)


def test_the_cosine_is_that_with_the_last_step() -> None:
    """Delta (3, 4) against a step along (1, 0): 0.6; at tau 10 raw = 1.5 + 0.8 = 2.3."""
    aggregator = after_a_step(Port(minimum=2), vector(5, 0))
    fresh, stale = push(vector(1, 0), base=20), push(vector(3, 4), base=10, device="b")
    assert moved(aggregator, fresh, stale).tolist() == pytest.approx(
        [(4.0 + 2.3 * 3) / 6.3, 2.3 * 4 / 6.3]
    )


def test_examples_weigh() -> None:
    """Raw 4.0 * 100 and 4.0 * 300: as the average by examples."""
    aggregator = server(Port(minimum=2), 0.0)
    step = moved(
        aggregator,
        push(vector(1.0), device="a", examples=100),
        push(vector(6.0), device="b", examples=300),
    )
    assert step.item() == 4.75


@pytest.mark.parametrize(("tau", "agrees"), [(0, True), (1, True), (2, False)])
def test_agreement_is_taken_for_granted_up_to_tau_1(tau: int, agrees: bool) -> None:
    aggregator = after_a_step(Port(minimum=2), vector(1.0))
    outcome = aggregator.take(push(vector(-1.0), base=20 - tau))
    assert isinstance(outcome, Buffered)
    raw = 3 * 10 / (10 + tau) + (1 if agrees else 0)
    assert outcome.weight == pytest.approx(raw / 4 / 2)


def test_the_direction_is_that_of_the_newest_step_alone() -> None:
    aggregator = after_a_step(Port(minimum=1), vector(1.0))
    aggregator.take(push(vector(-4.0), base=20))
    aggregator.rule = Port(minimum=2)
    outcome = aggregator.take(push(vector(-1.0), base=11))  # tau 10, cosine 1 with the newest
    assert isinstance(outcome, Buffered)
    assert outcome.weight == pytest.approx(2.5 / 4 / 2)


def test_a_delta_of_zero_and_a_first_step_count_as_agreeing() -> None:
    aggregator = server(Port(minimum=3), 0.0, version=20)
    aggregator.versions[10] = vector(0.0)
    first = aggregator.take(push(vector(-1.0), base=10))
    zero = after_a_step(Port(minimum=3), vector(1.0)).take(push(vector(0.0), base=10))
    assert isinstance(first, Buffered)
    assert isinstance(zero, Buffered)
    assert first.weight == zero.weight == pytest.approx(2.5 / 4 / 3)


def test_submodels_are_averaged_and_compared_on_what_they_hold() -> None:
    """The step was along (1, 1); b, tau 10, holds entry 0 only and goes just along it: raw 2.5."""
    aggregator = after_a_step(Port(minimum=2), vector(1, 1))
    step = moved(
        aggregator,
        push(vector(2, 2), base=20, device="a"),
        push(vector(4, 0), base=10, device="b", held=vector(1, 0)),
    )
    assert step.tolist() == pytest.approx([(4 * 2 + 2.5 * 4) / 6.5, 2.0])


def test_no_examples_is_no_vote() -> None:
    aggregator = server(Port(minimum=1), 0.0)
    with pytest.raises(InvalidUpdate, match="num_examples is 0"):
        aggregator.take(push(vector(1.0), examples=0))
    aggregator.take(push(vector(2.0)))
    assert aggregator.now.model.item() == 2.0
