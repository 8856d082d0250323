"""FedASMU's scalars: the weight of an upload, and how a device's three controls are learned.

Liu, Che, Zhou, Jin, Dai, Dou, Valduriez. FedASMU: Efficient Asynchronous Federated Learning with
Dynamic Staleness-Aware Model Update. AAAI 2024. Equations 2 and 3.

Throughout, `t` is the version that an upload met and `s = t - o + 1` its staleness, so that a
perfectly fresh upload has s = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LARGEST = 1e9
"""Bound of a control: without normalising, a device may send a gradient of any size."""


@dataclass(frozen=True, slots=True)
class Controls:
    """What is learned for one device. All three stay at 0 or above."""

    lambda_: float  # scale
    sigma: float  # exponent of staleness
    iota: float  # floor that neither t nor s can shrink


def xi(controls: Controls, t: int, s: int) -> float:
    """Worth of an upload (Eq. 2): lambda / (sqrt(t) s^sigma) + iota, at least 0."""
    return controls.lambda_ * decay(t, s, controls.sigma) + controls.iota


def decay(t: int, s: int, sigma: float) -> float:
    """1 / (sqrt(t) s^sigma). The one line that says what the square root covers: t alone."""
    return math.exp(-sigma * math.log(max(1, s))) / math.sqrt(max(1, t))


def alpha(mu_alpha: float, worth: float) -> float:
    """Weight of an upload whose xi is `worth` (Eq. 2): mu xi / (1 + mu xi), in [0, 1)."""
    return mu_alpha * worth / (1 + mu_alpha * worth)


def gradients(controls: Controls, mu_alpha: float, slope: float, t: int, s: int) -> Controls:
    """dF/d(lambda, sigma, iota) through the alpha of an earlier upload at `t` and `s` (Eq. 3).

    `slope` is dF/dalpha = <gradient at the model that the upload made, D>, D = the upload's
    trained model minus the global model it met. `controls` are those that gave that alpha.
    """
    by_xi = slope * mu_alpha / (1 + mu_alpha * xi(controls, t, s)) ** 2
    by_lambda = by_xi * decay(t, s, controls.sigma)
    by_sigma = -by_lambda * controls.lambda_ * math.log(max(1, s))
    return Controls(by_lambda, by_sigma, by_xi)


def learned(controls: Controls, gradient: Controls, rates: Controls) -> Controls:
    """Controls after one step against `gradient` (Eq. 3), kept at 0 or above."""
    return Controls(
        _stepped(controls.lambda_, rates.lambda_ * gradient.lambda_),
        _stepped(controls.sigma, rates.sigma * gradient.sigma),
        _stepped(controls.iota, rates.iota * gradient.iota),
    )


def _stepped(value: float, step: float) -> float:
    """`value` less `step`, in [0, LARGEST]; as it was when the step is not a number."""
    return value if math.isnan(step) else min(LARGEST, max(0.0, value - step))
