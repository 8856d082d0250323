"""FedASMU against the tables, the worked example and an independent reference in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.losses import central_difference, gradient, logistic_loss
from support.strategies import Arrival, Server, bits, push, server, vector

from hocket.core.ids import DeviceId
from hocket.core.update import Applied, Dropped
from hocket.learn.strategies import FedASMU, FedAsync
from hocket.learn.strategies.controls import Controls, alpha, gradients, learned, xi
from hocket.learn.strategies.displacement import vector_of
from hocket.learn.strategies.fedasmu import DeviceMemory

A = DeviceId("a")
both_rules = pytest.mark.parametrize("rule", ["gated", "approximate"])


def remembered(aggregator: Server) -> DeviceMemory:
    memory: DeviceMemory = aggregator.memory.devices[A]
    return memory


# --- the weight (Eq. 2) ---


@pytest.mark.parametrize(
    ("t", "o", "sigma", "iota", "worth", "weight"),
    [
        (1, 1, 1.0, 0.0, 1.0, 0.5),
        (1, 1, 0.5, 0.0, 1.0, 0.5),
        (1, 1, 1.0, 0.1, 1.1, 0.523810),
        (4, 4, 1.0, 0.0, 0.5, 0.333333),
        (4, 4, 0.5, 0.0, 0.5, 0.333333),
        (4, 4, 1.0, 0.1, 0.6, 0.375),
        (100, 100, 1.0, 0.0, 0.1, 0.090909),
        (100, 100, 0.5, 0.0, 0.1, 0.090909),
        (100, 100, 1.0, 0.1, 0.2, 0.166667),
        (100, 99, 1.0, 0.0, 0.05, 0.047619),
        (100, 99, 0.5, 0.0, 0.070711, 0.066041),
        (100, 99, 1.0, 0.1, 0.15, 0.130435),
        (100, 92, 1.0, 0.0, 0.011111, 0.010989),
        (100, 92, 0.5, 0.0, 0.033333, 0.032258),
        (100, 92, 1.0, 0.1, 0.111111, 0.1),
        (100, 2, 1.0, 0.0, 0.001010, 0.001009),
        (100, 2, 0.5, 0.0, 0.010050, 0.009950),
        (100, 2, 1.0, 0.1, 0.101010, 0.091743),
    ],
)
def test_the_published_table(
    t: int, o: int, sigma: float, iota: float, worth: float, weight: float
) -> None:
    controls = Controls(1.0, sigma, iota)
    assert xi(controls, t, t - o + 1) == pytest.approx(worth, abs=1e-6)
    assert alpha(1.0, xi(controls, t, t - o + 1)) == pytest.approx(weight, abs=1e-6)
    aggregator = server(FedASMU(sigma0=sigma, iota0=iota), 0.0, version=t)
    aggregator.versions[o] = vector(0.0)
    outcome = aggregator.take(push(vector(1.0), base=o))
    assert isinstance(outcome, Applied)
    assert (outcome.version, outcome.tau) == (t + 1, t - o)
    assert outcome.weight == pytest.approx(weight, abs=1e-6)
    assert aggregator.now.model.item() == pytest.approx(weight, abs=1e-6)


def test_the_weight_falls_strictly_with_staleness_and_version() -> None:
    controls = Controls(1.0, 0.5, 0.1)
    by_s = [alpha(2.0, xi(controls, 50, s)) for s in range(1, 50)]
    by_t = [alpha(2.0, xi(controls, t, 3)) for t in range(1, 50)]
    for weights in (by_s, by_t):
        assert all(later < earlier for earlier, later in pairwise(weights))


def test_the_floor_of_the_weight_is_iota() -> None:
    controls, floor = Controls(1.0, 1.0, 0.25), 3 * 0.25 / (1 + 3 * 0.25)
    assert alpha(3.0, xi(controls, 10**14, 1)) == pytest.approx(floor, abs=1e-6)
    assert alpha(3.0, xi(controls, 1, 10**14)) == pytest.approx(floor, abs=1e-6)


def test_mu_alpha_goes_from_nothing_to_all() -> None:
    worth = xi(Controls(1.0, 1.0, 0.0), 4, 2)
    assert alpha(0.0, worth) == 0.0
    assert alpha(1e12, worth) == pytest.approx(1.0, abs=1e-9)


def test_without_sigma_staleness_does_not_count() -> None:
    assert xi(Controls(1.0, 0.0, 0.1), 9, 1) == xi(Controls(1.0, 0.0, 0.1), 9, 7)


def test_version_zero_counts_as_one() -> None:
    assert xi(Controls(1.0, 1.0, 0.0), 0, 1) == 1.0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.floats(-5, 5, width=32))))
@settings(max_examples=30)
def test_without_lambda_it_is_fedasync_with_a_constant_weight_bit_for_bit(
    pushes: list[tuple[str, int, float]],
) -> None:
    """mu = 1, iota = 1.5: alpha = 1.5 / 2.5 = 0.6 always."""
    still = FedASMU(lambda0=0.0, iota0=1.5, eta_lambda=0, eta_sigma=0, eta_iota=0)
    mixed, reference = server(still, 1.0), server(FedAsync(0.6, "constant"), 1.0)
    for device, lag, delta in pushes:
        arrival = Arrival(device, lag, (delta,))
        assert mixed.take(arrival.at(mixed.now)) == reference.take(arrival.at(reference.now))
    assert bits(mixed.now.model) == bits(reference.now.model)


# --- staleness ---


def test_staleness_counts_versions_since_the_base() -> None:
    aggregator = server(FedASMU(), 0.0)
    for k in range(4):
        assert aggregator.take(push(vector(1.0), base=1, device=str(k))).tau == k
        assert aggregator.memory.devices[str(k)].last.s == k + 1


def test_the_limit_is_accepted_and_one_more_dropped_without_a_trace() -> None:
    aggregator = server(FedASMU(staleness_limit=99, eta_lambda=1.0), 0.0, version=2)
    aggregator.versions[1] = vector(0.0)
    aggregator.take(push(vector(1.0), base=2))
    aggregator.now = replace(aggregator.now, version=type(aggregator.now.version)(100))
    known, now = remembered(aggregator), aggregator.now
    dropped = aggregator.take(push(vector(1.0), base=1))
    assert isinstance(dropped, Dropped)
    assert dropped.tau == 99
    assert aggregator.now is now
    assert remembered(aggregator) is known
    assert isinstance(aggregator.take(push(vector(1.0), base=2)), Applied)
    assert remembered(aggregator).controls.lambda_ > known.controls.lambda_


# --- learning the controls (Eq. 3) ---

WORKED = (Controls(1.0, 1.0, 0.0), 4, 2)
"""lambda = sigma = 1, iota = 0, t = 4, s = 2: xi = 1 / (2 * 2) = 0.25, alpha = 0.2, K = 0.64."""


def test_the_worked_gradients() -> None:
    controls, t, s = WORKED
    slope = gradients(controls, 1.0, -0.45, t, s)
    assert slope.lambda_ == pytest.approx(-0.072, abs=1e-9)
    assert slope.sigma == pytest.approx(0.288 * math.log(2) / 4, abs=1e-9)  # 0.04990660
    assert slope.iota == pytest.approx(-0.288, abs=1e-9)


@both_rules
def test_the_worked_example_through_the_strategy(rule: Literal["gated", "approximate"]) -> None:
    """F = (w - 1)^2 / 2; the upload 0.5 meets w = 0 at t = 4 with s = 2 and makes w = 0.1.

    The device restarts there, with eta = 0.03 and L = 3 steps along the exact gradient -0.9.
    """
    rates = {"eta_lambda": 0.1, "eta_sigma": 0.1, "eta_iota": 0.1}
    aggregator = server(FedASMU(rule=rule, normalise=False, **rates), 0.0, version=4)  # type: ignore[arg-type]
    aggregator.versions[3] = vector(-0.25)
    aggregator.take(push(vector(0.75), base=3))
    assert aggregator.now.model.item() == pytest.approx(0.1, abs=1e-7)
    aggregator.take(push(vector(0.9 * 0.09), base=5, learning_rate=0.03, steps=3))
    controls = remembered(aggregator).controls
    assert controls.lambda_ == pytest.approx(1.0072, abs=1e-6)
    assert controls.sigma == pytest.approx(0.9950093, abs=1e-6)
    assert controls.iota == pytest.approx(0.0288, abs=1e-6)


def test_the_new_controls_weigh_the_very_upload_that_taught_them() -> None:
    aggregator = server(FedASMU(eta_lambda=1.0, eta_iota=1.0), 0.0, version=4)
    aggregator.take(push(vector(1.0), base=4))
    outcome = aggregator.take(push(vector(1.0), base=5))
    worth = xi(remembered(aggregator).controls, 5, 1)
    assert isinstance(outcome, Applied)
    assert outcome.weight == pytest.approx(worth / (1 + worth))
    assert outcome.weight > 1 / (1 + math.sqrt(5))  # what lambda = 1 and iota = 0 would give


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("seed", range(4))
def test_gradients_equal_finite_differences_of_a_real_loss(size: int, seed: int) -> None:
    loss = logistic_loss(seed, size)
    generator = torch.Generator().manual_seed(100 + seed)
    met, trained = torch.randn(2, size, generator=generator, dtype=torch.float64)
    controls, mu, t, s = Controls(0.8, 0.7, 0.05), 1.7, 7, 3 + seed

    def outcome(controls: Controls) -> float:
        worth = controls.lambda_ / (math.sqrt(t) * s**controls.sigma) + controls.iota
        weight = mu * worth / (1 + mu * worth)
        return loss((1 - weight) * met + weight * trained).item()

    weight = alpha(mu, xi(controls, t, s))
    made = (1 - weight) * met + weight * trained
    slope = torch.dot(gradient(loss, made), trained - met).item()
    derived = gradients(controls, mu, slope, t, s)
    for name in ("lambda_", "sigma", "iota"):
        expected = central_difference(
            lambda value, name=name: outcome(replace(controls, **{name: value})),  # type: ignore[misc]
            getattr(controls, name),
        )
        assert getattr(derived, name) == pytest.approx(expected, rel=1e-5, abs=1e-9)
        assert abs(expected) > 1e-6


def test_a_fresh_upload_says_nothing_of_sigma() -> None:
    assert gradients(Controls(1.0, 1.0, 0.0), 1.0, -0.5, 9, 1).sigma == 0.0


def twice(rule: FedASMU, second: float, base: int = 5) -> Controls:
    """A first upload of +1 at t = 4, s = 3, then one of `second` on the version it made."""
    aggregator = server(rule, 0.0, 0.0, version=4)
    aggregator.versions |= {2: vector(0.0, 0.0), 3: vector(0.0, 0.0)}
    aggregator.take(push(vector(1, 1), base=2))
    aggregator.take(push(vector(second, second), base=base))
    return remembered(aggregator).controls


@both_rules
@pytest.mark.parametrize("normalise", [True, False])
def test_going_on_in_one_direction_raises_the_weight(
    rule: Literal["gated", "approximate"], normalise: bool
) -> None:
    """The test of the sign: agreement must raise lambda and iota and lower sigma."""
    strategy = FedASMU(iota0=0.1, rule=rule, normalise=normalise)
    same, opposite = twice(strategy, 0.5), twice(strategy, -0.5)
    assert same.lambda_ > 1 > opposite.lambda_
    assert same.sigma < 1 < opposite.sigma
    assert same.iota > 0.1 > opposite.iota


def test_gated_learns_only_from_the_version_that_the_device_made() -> None:
    start = Controls(1.0, 1.0, 0.0)
    assert twice(FedASMU(rule="gated"), 0.5, base=3) == start
    assert twice(FedASMU(rule="gated"), 0.5, base=5) != start
    assert twice(FedASMU(rule="approximate"), 0.5, base=3) != start


def test_without_rates_nothing_is_learned() -> None:
    assert twice(FedASMU(eta_lambda=0, eta_sigma=0, eta_iota=0), 0.5) == Controls(1.0, 1.0, 0.0)


def test_normalised_slopes_do_not_depend_on_lengths() -> None:
    """Parallel vectors have cosine 1 whatever their size: K / (sqrt(4) * 3) at xi = 1 / 6."""
    expected = 1 + 1e-3 * (1 / (1 + 1 / 6) ** 2) / 6
    for second in (1e-3, 0.5, 1e3):
        assert twice(FedASMU(), second).lambda_ == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("normalise", [True, False])
def test_an_empty_delta_teaches_nothing(normalise: bool) -> None:
    assert twice(FedASMU(normalise=normalise), 0.0) == Controls(1.0, 1.0, 0.0)


def test_controls_never_fall_below_zero() -> None:
    greedy = FedASMU(eta_lambda=1e3, eta_sigma=1e3, eta_iota=1e3)
    assert twice(greedy, -1.0).lambda_ == 0.0
    assert twice(greedy, -1.0).iota == 0.0
    assert twice(greedy, 1.0).sigma == 0.0


@pytest.mark.parametrize("learning_rate", [0.0, 1e-320])
def test_a_strange_learning_rate_does_no_harm(learning_rate: float) -> None:
    aggregator = server(FedASMU(normalise=False), 0.0)
    for version in range(1, 6):
        aggregator.take(push(vector(1e9), base=version, learning_rate=learning_rate))
    assert math.isfinite(aggregator.now.model.item())
    assert math.isfinite(remembered(aggregator).controls.lambda_)


def test_a_step_that_is_no_number_is_not_taken() -> None:
    controls = Controls(1.0, 2.0, 3.0)
    assert learned(controls, Controls(*[math.nan] * 3), Controls(1.0, 1.0, 1.0)) == controls


def test_devices_learn_apart() -> None:
    aggregator = server(FedASMU(), 0.0)
    for version, device in enumerate("aab", start=1):
        aggregator.take(push(vector(1.0), base=version, device=device))
    assert aggregator.memory.devices["a"].controls != aggregator.memory.devices["b"].controls
    assert aggregator.memory.devices["b"].controls == Controls(1.0, 1.0, 0.0)


def test_only_what_was_held_is_remembered() -> None:
    aggregator = server(FedASMU(), 0.0, 0.0, version=2)
    aggregator.versions[1] = vector(5.0, 5.0)
    aggregator.take(push(vector(1, 0), base=1, held=vector(1, 0)))
    assert vector_of(remembered(aggregator).last.moved).tolist() == [6.0, 0.0]
    assert remembered(aggregator).last.moved_square == 36.0


# --- a whole run ---


def reference_run(rule: FedASMU, arrivals: list[Arrival]) -> list[np.ndarray]:
    """Section by section from the paper's equations, in float64, keeping every model."""
    models = [np.array([1.0, -1.0, 0.5])]  # models[v - 1] is version v
    devices: dict[str, dict[str, float]] = {}
    last: dict[str, tuple[np.ndarray, int, int]] = {}
    for each in arrivals:
        t = len(models)
        o = max(1, t - each.lag)
        delta = np.array(each.delta)
        c = devices.setdefault(each.device, {"l": rule.lambda0, "s": rule.sigma0, "i": rule.iota0})
        if each.device in last and (rule.rule == "approximate" or last[each.device][1] + 1 == o):
            D, t_, s_ = last[each.device]
            product = float(delta @ D)
            size = float(np.linalg.norm(delta) * np.linalg.norm(D)) if rule.normalise else 0.05
            A_ = -product / size if size > 0 else 0.0
            worth = c["l"] / (t_**0.5 * s_ ** c["s"]) + c["i"]
            K = rule.mu_alpha / (1 + rule.mu_alpha * worth) ** 2
            shape = 1 / (t_**0.5 * s_ ** c["s"])
            steps = (A_ * K * shape, -A_ * K * shape * c["l"] * np.log(s_), A_ * K)
            c["l"] = max(0.0, c["l"] - rule.eta_lambda * steps[0])
            c["s"] = max(0.0, c["s"] - rule.eta_sigma * steps[1])
            c["i"] = max(0.0, c["i"] - rule.eta_iota * steps[2])
        s = t - o + 1
        worth = c["l"] / (t**0.5 * s ** c["s"]) + c["i"]
        weight = 1 - 1 / (1 + rule.mu_alpha * worth)
        trained = models[o - 1] + delta
        last[each.device] = (trained - models[-1], t, s)
        models.append((1 - weight) * models[-1] + weight * trained)
    return models


@pytest.mark.parametrize("normalise", [True, False])
@both_rules
@given(
    st.lists(
        st.builds(
            Arrival,
            st.sampled_from("abc"),
            st.integers(0, 3),
            st.tuples(*[st.integers(-40, 40).map(lambda n: n / 16)] * 3),
        ),
        min_size=1,
        max_size=15,
    )
)
@settings(max_examples=40)
def test_a_sequence_equals_the_reference(
    rule: Literal["gated", "approximate"], normalise: bool, arrivals: list[Arrival]
) -> None:
    strategy = FedASMU(
        mu_alpha=1.5,
        lambda0=0.9,
        sigma0=0.6,
        iota0=0.1,
        eta_lambda=0.02,
        eta_sigma=0.03,
        eta_iota=0.01,
        rule=rule,
        normalise=normalise,
    )
    aggregator = server(strategy, 1.0, -1.0, 0.5)
    for each in arrivals:
        aggregator.take(each.at(aggregator.now, learning_rate=0.01, steps=5))
    expected = reference_run(strategy, arrivals)
    assert aggregator.now.version == len(expected)
    assert np.allclose(aggregator.now.model.numpy(), expected[-1], rtol=1e-3, atol=1e-3)
