"""The mid-training merge against its published numbers and finite differences."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from support.losses import central_difference, gradient, logistic_loss

from hocket.core.refresh import RefreshControls, RefreshRules
from hocket.errors import TaskError


@pytest.mark.parametrize(
    ("g", "o", "upsilon", "phi", "beta"),
    [
        (4, 4, 1.0, 0.0, 0.0),
        (4, 4, 0.0, 0.5, 1 / 3),
        (4, 1, 1.0, 0.25, 0.2),
        (9, 1, 1.0, 0.222222, 0.181818),
        (100, 92, 1.0, 0.066667, 0.0625),
        (100, 97, 1.0, 0.05, 0.047619),
        (100, 1, 0.0, 0.1, 0.090909),
        (100, 100, 0.0, 0.1, 0.090909),
    ],
)
def test_the_published_numbers(g: int, o: int, upsilon: float, phi: float, beta: float) -> None:
    controls = RefreshControls(1.0, upsilon)
    assert controls.phi(g, o) == pytest.approx(phi, abs=1e-6)
    assert controls.beta(g, o) == pytest.approx(beta, abs=1e-6)


def test_mu_beta_goes_from_the_local_model_to_the_global_one() -> None:
    for mu, beta in ((1e-12, 0.0), (1e12, 1.0)):
        controls = RefreshRules(mu_beta=mu).start()
        assert controls.beta(9, 1) == pytest.approx(beta, abs=1e-9)


def test_more_missed_versions_merge_more() -> None:
    betas = [RefreshControls(1.0, 0.5).beta(50, 50 - gap) for gap in range(50)]
    assert all(later > earlier for earlier, later in pairwise(betas))


def test_later_versions_merge_less() -> None:
    betas = [RefreshControls(1.0, 0.5).beta(g, g - 3) for g in range(4, 50)]
    assert all(later < earlier for earlier, later in pairwise(betas))


def test_a_negative_worth_counts_as_none() -> None:
    controls = RefreshControls(1.0, 2.0)
    assert controls.phi(4, 4) == 0.0
    assert controls.beta(4, 4) == 0.0


def test_a_first_device_starts_as_the_rules_say() -> None:
    start = RefreshRules(gamma0=0.7, upsilon0=0.2).start()
    assert (start.gamma, start.upsilon) == (0.7, 0.2)


@pytest.mark.parametrize("seed", range(4))
def test_the_gradients_equal_finite_differences_of_a_real_loss(seed: int) -> None:
    loss, g, o, mu, rate = logistic_loss(seed, 5), 12, 8 + seed, 1.3, 1e-3
    generator = torch.Generator().manual_seed(seed)
    local, fresh = torch.randn(2, 5, generator=generator, dtype=torch.float64).unbind()
    rules = RefreshRules(mu_beta=mu, eta_gamma=rate, eta_upsilon=rate)
    controls = RefreshControls(0.9, 0.4, rules)

    def merged(gamma: float, upsilon: float) -> torch.Tensor:
        phi = gamma / math.sqrt(g) * (1 - upsilon / math.sqrt(g - o + 1))
        beta: float = mu * phi / (1 + mu * phi)
        return (1 - beta) * local + beta * fresh

    product = torch.dot(gradient(loss, merged(0.9, 0.4)), fresh - local).item()
    after = controls.learned(product, g, o)
    by_gamma = central_difference(lambda gamma: loss(merged(gamma, 0.4)).item(), 0.9)
    by_upsilon = central_difference(lambda upsilon: loss(merged(0.9, upsilon)).item(), 0.4)
    assert (controls.gamma - after.gamma) / rate == pytest.approx(by_gamma, rel=1e-5, abs=1e-9)
    assert (controls.upsilon - after.upsilon) / rate == pytest.approx(
        by_upsilon, rel=1e-5, abs=1e-9
    )
    assert abs(by_gamma) > 1e-6


def test_a_merge_that_helps_grows() -> None:
    """B < 0: the loss falls towards the fresh model, so the next merge takes more of it."""
    before = RefreshControls(1.0, 0.5)
    helped, harmed = before.learned(-1.0, 9, 4), before.learned(1.0, 9, 4)
    assert helped.beta(9, 4) > before.beta(9, 4) > harmed.beta(9, 4)
    assert helped.gamma > 1 > harmed.gamma
    assert helped.upsilon < 0.5 < harmed.upsilon


def test_the_controls_stay_in_their_ranges() -> None:
    rules = RefreshRules(eta_gamma=1e3, eta_upsilon=1e3)
    harmed, helped = rules.start().learned(9.0, 9, 4), rules.start().learned(-9.0, 9, 4)
    assert (harmed.gamma, harmed.upsilon) == (0.0, 1.0)
    assert helped.upsilon == 0.0
    assert helped.rules is rules


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"mu_beta": 0.0}, "mu_beta"),
        ({"gamma0": -1.0}, "gamma0"),
        ({"upsilon0": 1.5}, "upsilon0"),
        ({"upsilon0": float("nan")}, "upsilon0"),
        ({"eta_gamma": -1.0}, "eta_gamma"),
        ({"eta_upsilon": float("inf")}, "eta_upsilon"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, float], name: str) -> None:
    with pytest.raises(TaskError, match=f"refresh.{name}"):
        RefreshRules(**values)
