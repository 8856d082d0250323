"""How much of a fresh global model a device takes over in mid-training, and how it learns that.

Liu, Che, Zhou, Jin, Dai, Dou, Valduriez. FedASMU: Efficient Asynchronous Federated Learning with
Dynamic Staleness-Aware Model Update. AAAI 2024. Equations 7 to 9.

A device that started from version `o` and receives version `g` in mid-training merges
w <- (1 - beta) w + beta w_g. The floats are here; the tensors are the caller's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from hocket.core.ranges import not_negative, positive, share


@dataclass(frozen=True, slots=True)
class RefreshRules:
    """Hyperparameters of the merge. The paper's values are unknown to us; tune them per task."""

    mu_beta: float = 1.0  # turns phi into a weight; larger merges more
    gamma0: float = 1.0  # first scale of a device
    upsilon0: float = 0.5  # first suppression of small version gaps, in [0, 1]
    eta_gamma: float = 0.01  # learning rate of gamma
    eta_upsilon: float = 0.01  # learning rate of upsilon

    def __post_init__(self) -> None:
        positive("refresh", "mu_beta", self.mu_beta)
        not_negative("refresh", "gamma0", self.gamma0)
        share("refresh", "upsilon0", self.upsilon0)
        not_negative("refresh", "eta_gamma", self.eta_gamma)
        not_negative("refresh", "eta_upsilon", self.eta_upsilon)

    def start(self) -> RefreshControls:
        """Controls of a device that has never merged."""
        return RefreshControls(self.gamma0, self.upsilon0, self)


@dataclass(frozen=True, slots=True)
class RefreshControls:
    """One device's learned controls. `gamma` and `upsilon` are what it keeps on disk."""

    gamma: float
    upsilon: float
    rules: RefreshRules = field(default_factory=RefreshRules)

    def phi(self, g: int, o: int) -> float:
        """Worth of merging version `g` into training that began at `o` (Eq. 8), at least 0."""
        return max(0.0, self.gamma * self._worth(g, o))

    def beta(self, g: int, o: int) -> float:
        """Weight of the fresh model in [0, 1) (Eq. 8). Larger for more missed versions."""
        scaled = self.rules.mu_beta * self.phi(g, o)
        return scaled / (1 + scaled)

    def learned(self, inner_product: float, g: int, o: int) -> RefreshControls:
        """Controls after one gradient step through a merge (Eq. 9).

        `inner_product` is B = <gradient of the local loss at the merged model, w_g - w>, w being
        the local model just before the merge. gamma stays >= 0 and upsilon in [0, 1].
        """
        by_phi = inner_product * self.rules.mu_beta / (1 + self.rules.mu_beta * self.phi(g, o)) ** 2
        by_gamma = by_phi * self._worth(g, o)
        by_upsilon = -by_phi * self.gamma / (_root(g) * _root(g - o + 1))
        gamma = max(0.0, self.gamma - self.rules.eta_gamma * by_gamma)
        upsilon = min(1.0, max(0.0, self.upsilon - self.rules.eta_upsilon * by_upsilon))
        return replace(self, gamma=gamma, upsilon=upsilon)

    def _worth(self, g: int, o: int) -> float:
        """Phi / gamma."""
        return (1 - self.upsilon / _root(g - o + 1)) / _root(g)


def _root(count: int) -> float:
    return math.sqrt(max(1, count))
