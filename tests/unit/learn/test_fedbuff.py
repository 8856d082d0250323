"""FedBuff against its published example, FedAvg, and itself in another order."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import Arrival, push, server, vector

from hocket.core.ids import Version
from hocket.core.update import Applied, Buffered
from hocket.learn.strategies import FedAvg, FedBuff

floats = st.floats(-100, 100, width=32)
deltas = st.lists(st.tuples(floats, floats, floats), min_size=1, max_size=8)


def test_the_published_example() -> None:
    """Deltas 4, 2, -1 at tau 0, 3, 8 with K = 3: (4 + 2 / 2 - 1 / 3) / 3 = +1.5556."""
    aggregator = server(FedBuff(goal=3), 0.0, version=9)
    aggregator.versions |= {6: vector(50.0), 1: vector(70.0)}
    outcomes = [
        aggregator.take(push(vector(4.0), base=9, device="a")),
        aggregator.take(push(vector(2.0), base=6, device="b")),
        aggregator.take(push(vector(-1.0), base=1, device="c")),
    ]
    assert outcomes[:2] == [
        Buffered(Version(10), 1 / 3, 0, 1, 3),
        Buffered(Version(10), 1 / 6, 3, 2, 3),
    ]
    last = outcomes[2]
    assert isinstance(last, Applied)
    assert (last.version, last.tau) == (10, 8)
    assert last.weight == pytest.approx(1 / 9)
    assert aggregator.now.model.item() == pytest.approx(1.5556, abs=5e-5)


def test_a_new_buffer_starts_empty() -> None:
    aggregator = server(FedBuff(goal=2, server_lr=0.5), 0.0)
    for _ in range(4):
        aggregator.take(push(vector(2.0), base=aggregator.now.version))
    assert aggregator.now.version == 3
    assert aggregator.now.model.item() == 2.0  # two steps of 0.5 * 2


def test_goal_one_is_plain_asynchronous_sgd() -> None:
    aggregator = server(FedBuff(goal=1), 1.0)
    for delta in (1.0, 2.0, -0.5):
        aggregator.take(push(vector(delta), base=aggregator.now.version))
    assert aggregator.now.model.item() == 3.5
    assert aggregator.now.version == 4


@given(deltas, st.integers(1, 1000))
@settings(max_examples=50)
def test_a_fresh_complete_cohort_is_fedavg(pushed: list[tuple[float, ...]], examples: int) -> None:
    buffered = server(FedBuff(goal=len(pushed)), 1.0, -2.0, 0.25)
    averaged = server(FedAvg(cohort=len(pushed)), 1.0, -2.0, 0.25)
    for device, delta in enumerate(pushed):
        update = push(vector(*delta), device=str(device), examples=examples)
        buffered.take(update)
        averaged.take(update)
    assert buffered.now.version == averaged.now.version == 2
    exact = np.array([1.0, -2.0, 0.25]) + np.mean(np.array(pushed), axis=0)
    for result in (buffered, averaged):
        assert np.allclose(result.now.model.numpy(), exact, rtol=2.0**-23, atol=1e-12)


@given(
    st.lists(
        st.builds(
            Arrival,
            st.sampled_from("abc"),
            st.integers(0, 5),
            st.tuples(*[st.floats(-100, 100, width=32)] * 3),
        ),
        min_size=2,
        max_size=10,
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=50)
def test_order_within_a_buffer_moves_no_value_by_more_than_one_ulp(
    arrivals: list[Arrival], chance: random.Random
) -> None:
    shuffled = chance.sample(arrivals, len(arrivals))
    results = []
    for order in (arrivals, shuffled):
        aggregator = server(FedBuff(goal=len(arrivals)), 1.0, -2.0, 0.0, version=6)
        aggregator.versions |= {version: torch.zeros(3) for version in range(1, 6)}
        for each in order:
            aggregator.take(each.at(aggregator.now))
        assert aggregator.now.version == 7
        results.append(aggregator.now.model.numpy())
    ulp = np.spacing(np.maximum(np.abs(results[0]), np.abs(results[1])))
    # where everything cancels, float64's own rounding of sums up to 1000 is all that is left
    assert (np.abs(results[0] - results[1]) <= np.maximum(ulp, 1e-12)).all()
