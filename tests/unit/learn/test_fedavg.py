"""FedAvg by hand: weights, rounds, and submodels averaged over their holders."""

from __future__ import annotations

import pytest
from support.strategies import push, server, vector

from hocket.core.ids import Version
from hocket.core.update import Applied, Buffered, Dropped, DropReason
from hocket.errors import InvalidUpdate
from hocket.learn.strategies import FedAvg


def test_examples_are_the_weights() -> None:
    """Deltas 1 and 6 with 100 and 300 examples: 0 + 1/4 + 18/4 = 4.75."""
    aggregator = server(FedAvg(cohort=2), 0.0)
    first = aggregator.take(push(vector(1.0), device="a", examples=100))
    second = aggregator.take(push(vector(6.0), device="b", examples=300))
    assert first == Buffered(Version(2), 1.0, 0, 1, 2)
    assert second == Applied(Version(2), 0.75, 0)
    assert aggregator.now.model.item() == 4.75


def test_a_closed_round_takes_nothing_more() -> None:
    aggregator = server(FedAvg(cohort=1), 0.0)
    aggregator.take(push(vector(1.0), device="a"))
    late = aggregator.take(push(vector(9.0), base=1, device="b"))
    assert isinstance(late, Dropped)
    assert late.reason is DropReason.ROUND_OVER
    assert "pull version 2" in late.message
    assert aggregator.now.model.item() == 1.0


def test_a_device_counts_once_a_round() -> None:
    aggregator = server(FedAvg(cohort=2), 0.0)
    aggregator.take(push(vector(1.0), device="a"))
    again = aggregator.take(push(vector(9.0), device="a"))
    assert isinstance(again, Dropped)
    assert again.reason is DropReason.ROUND_OVER
    assert "a has already pushed for version 1" in again.message
    aggregator.take(push(vector(3.0), device="b"))
    assert aggregator.now.model.item() == 2.0
    next_round = aggregator.take(push(vector(1.0), base=2, device="a"))
    assert isinstance(next_round, Buffered)


def test_each_entry_is_averaged_over_its_holders() -> None:
    """Entry 0: all three; entry 1: a (1 example) and c (3); entry 2: only a."""
    aggregator = server(FedAvg(cohort=3), 10.0, 10.0, 10.0)
    aggregator.take(push(vector(4, 4, 4), device="a", examples=1))
    aggregator.take(push(vector(8, 0, 0), device="b", examples=4, held=vector(1, 0, 0)))
    aggregator.take(push(vector(-4, 8, 0), device="c", examples=3, held=vector(1, 1, 0)))
    assert aggregator.now.model.tolist() == [10 + (4 + 32 - 12) / 8, 10 + (4 + 24) / 4, 14.0]


def test_an_entry_that_nobody_holds_stays() -> None:
    aggregator = server(FedAvg(cohort=2), 10.0, 10.0)
    for device in "ab":
        aggregator.take(push(vector(1, 0), device=device, held=vector(1, 0)))
    assert aggregator.now.model.tolist() == [11.0, 10.0]


def test_no_examples_is_no_vote() -> None:
    aggregator = server(FedAvg(cohort=1), 0.0)
    with pytest.raises(InvalidUpdate, match="num_examples is 0"):
        aggregator.take(push(vector(1.0), examples=0))
    assert aggregator.now.version == 1
    aggregator.take(push(vector(2.0), examples=1))
    assert aggregator.now.model.item() == 2.0
