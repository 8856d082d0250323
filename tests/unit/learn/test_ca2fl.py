"""CA2FL against its published example, and its cache against the plain way of computing it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import Arrival, push, server, vector

from hocket.learn.strategies import Ca2fl, FedBuff


def test_the_published_example() -> None:
    """n = 4, h = (1, 2, 0, -1); a and c send 3 and 2: v = 0.5 + (2 + 2) / 2, then h = 0.5 + 1."""
    rule = Ca2fl(goal=2, devices=4)
    aggregator = server(rule, 0.0)
    for device, delta in zip("abcd", (1.0, 2.0, 0.0, -1.0), strict=True):
        aggregator.take(push(vector(delta), base=aggregator.now.version, device=device))
    assert rule.mean(aggregator.memory).item() == 0.5
    before = aggregator.now.model.item()
    aggregator.take(push(vector(3.0), base=3, device="a"))
    aggregator.take(push(vector(2.0), base=3, device="c"))
    assert aggregator.now.model.item() - before == 2.5
    assert rule.mean(aggregator.memory).item() == 1.5


deltas = st.lists(st.tuples(*[st.floats(-100, 100, width=32)] * 3), min_size=1, max_size=8)


@given(deltas)
@settings(max_examples=30)
def test_with_nothing_cached_it_is_fedbuff_without_its_discount(
    pushed: list[tuple[float, ...]],
) -> None:
    """All tau 0, where FedBuff discounts nothing; CA2FL gives the same for stale updates."""
    fresh = server(FedBuff(goal=len(pushed), server_lr=0.5), 1.0, -2.0, 0.25, version=9)
    stale = server(Ca2fl(goal=len(pushed), server_lr=0.5), 1.0, -2.0, 0.25, version=9)
    stale.versions[1] = vector(7, 7, 7)
    for n, delta in enumerate(pushed):
        fresh.take(push(vector(*delta), base=9, device=str(n)))
        stale.take(push(vector(*delta), base=1, device=str(n)))
    assert fresh.now.version == stale.now.version == 10
    assert np.allclose(fresh.now.model, stale.now.model, rtol=2.0**-23, atol=1e-12)


def test_both_of_a_devices_updates_in_a_buffer_count_and_the_later_is_cached() -> None:
    """H = 0 for all at first: v = (1 + 5) / 2. Then h_a = 5, n = 2: v = 2.5 + (7 - 5 + 1) / 2."""
    rule = Ca2fl(goal=2, devices=2)
    aggregator = server(rule, 0.0)
    for delta in (1.0, 5.0):
        aggregator.take(push(vector(delta), device="a"))
    assert aggregator.now.model.item() == 3.0
    aggregator.take(push(vector(7.0), base=2, device="a"))
    aggregator.take(push(vector(1.0), base=2, device="b"))
    assert aggregator.now.model.item() == 3.0 + 2.5 + 1.5
    assert rule.mean(aggregator.memory).item() == 4.0


def test_more_devices_than_foretold_are_counted() -> None:
    rule = Ca2fl(goal=3, devices=1)
    aggregator = server(rule, 0.0)
    for device in "abc":
        aggregator.take(push(vector(6.0), device=device))
    assert rule.mean(aggregator.memory).item() == 6.0


@given(
    st.lists(
        st.builds(
            Arrival,
            st.sampled_from("abcde"),
            st.integers(0, 5),
            st.tuples(*[st.floats(-100, 100, width=32)] * 3),
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=30)
def test_a_history_equals_the_plain_way(arrivals: list[Arrival]) -> None:
    """Algorithm of the paper, with all caches in full and the mean taken anew each time."""
    aggregator = server(Ca2fl(goal=3, devices=5, server_lr=0.5), 1.0, -2.0, 0.0)
    model, cache = np.array([1.0, -2.0, 0.0]), dict.fromkeys("abcde", np.zeros(3))
    for start in range(0, len(arrivals) - 2, 3):
        buffer = arrivals[start : start + 3]
        mean = sum(cache.values()) / 5
        change = sum(np.array(each.delta) - cache[each.device] for each in buffer) / 3
        model = model + 0.5 * (mean + change)
        cache |= {each.device: np.array(each.delta) for each in buffer}
        for each in buffer:
            aggregator.take(each.at(aggregator.now))
    assert np.allclose(aggregator.now.model.numpy(), model, rtol=1e-5, atol=1e-3)


def test_what_is_cached_is_not_the_senders_memory() -> None:
    aggregator = server(Ca2fl(goal=1), 0.0)
    delta = vector(0.25)
    aggregator.take(push(delta))
    cached = aggregator.memory.cached["a"]
    assert cached.item() == delta.item()
    assert cached.data_ptr() != delta.data_ptr()


@pytest.mark.parametrize("server_lr", [0.5, 2.0])
def test_the_server_rate_scales_the_whole_step(server_lr: float) -> None:
    aggregator = server(Ca2fl(goal=1, devices=1, server_lr=server_lr), 0.0)
    for _ in range(2):  # v = 3, then 3 + (3 - 3)
        aggregator.take(push(vector(3.0), base=aggregator.now.version))
    assert aggregator.now.model.item() == 6.0 * server_lr
