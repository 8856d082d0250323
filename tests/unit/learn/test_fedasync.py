"""FedAsync against the tables of its staleness functions and its closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import Arrival, push, server, vector

from hocket.core.update import Applied, Dropped
from hocket.learn.strategies import FedAsync


@pytest.mark.parametrize(("tau", "s"), [(0, 1.0), (1, 0.70711), (3, 0.5), (8, 0.33333)])
def test_polynomial_table(tau: int, s: float) -> None:
    assert FedAsync().discount(tau) == pytest.approx(s, abs=5e-6)


@pytest.mark.parametrize(
    ("tau", "s"), [(0, 1.0), (4, 1.0), (5, 0.090909), (6, 0.047619), (8, 0.024390)]
)
def test_hinge_table(tau: int, s: float) -> None:
    assert FedAsync(staleness="hinge").discount(tau) == pytest.approx(s, abs=5e-7)


@pytest.mark.parametrize("tau", [0, 1, 100])
def test_constant_ignores_staleness(tau: int) -> None:
    assert FedAsync(staleness="constant").discount(tau) == 1.0


def test_the_published_example() -> None:
    """x = 1, y = 3, alpha = 0.6, tau = 3: a = 0.6 / sqrt(4) = 0.3, so 0.7 * 1 + 0.3 * 3 = 1.6."""
    aggregator = server(FedAsync(), 1.0, version=4)
    aggregator.versions[1] = vector(2.0)
    assert aggregator.take(push(vector(1.0), base=1)) == Applied(aggregator.now.version, 0.3, 3)
    assert aggregator.now.model.item() == pytest.approx(1.6, abs=1e-6)


def test_the_bound_itself_is_accepted() -> None:
    aggregator = server(FedAsync(max_tau=2), 1.0, version=4)
    aggregator.versions |= {1: vector(1.0), 2: vector(1.0)}
    assert isinstance(aggregator.take(push(vector(1.0), base=1)), Dropped)
    assert isinstance(aggregator.take(push(vector(1.0), base=2)), Applied)


@given(
    st.lists(
        st.builds(
            Arrival,
            st.just("a"),
            st.integers(0, 4),
            st.tuples(st.floats(-5, 5, width=32), st.floats(-5, 5, width=32)),
        ),
        min_size=1,
        max_size=10,
    )
)
@settings(max_examples=50)
def test_a_sequence_equals_its_closed_form(arrivals: list[Arrival]) -> None:
    """x_T = prod(1 - a_j) x_0 + sum_k a_k prod_{j > k}(1 - a_j) y_k, unrolled in float64."""
    aggregator = server(FedAsync(), 1.0, -1.0)
    start = np.array([1.0, -1.0])
    models, trained, weights = [start], [], []
    for each in arrivals:
        lag = min(each.lag, len(models) - 1)
        aggregator.take(each.at(aggregator.now))
        trained.append(models[-1 - lag] + np.array(each.delta))
        weights.append(0.6 / np.sqrt(lag + 1))
        kept = np.cumprod([1.0, *[1 - a for a in reversed(weights)]])[::-1]
        shares = np.array(weights) * kept[1:]
        models.append(kept[0] * start + shares @ np.array(trained))
    assert aggregator.now.version == 1 + len(arrivals)
    assert np.allclose(aggregator.now.model.numpy(), models[-1], rtol=1e-5, atol=1e-4)
