"""A device's own choice of the slot at which it pulls the fresh model: tabular Q-learning.

FedASMU (AAAI 2024), choice of the time slot. The state is the slot, the actions move it by one;
the server's policy supplies the first slot, afterwards this table moves it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hocket.core.ranges import at_least_one, share
from hocket.errors import DataError, NotFinite

MOVES = (+1, 0, -1)
"""Actions in table order: add, stay, minus."""

ADD, STAY, MINUS = range(3)


class Chance(Protocol):
    """Where random draws come from."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...

    def below(self, n: int) -> int:
        """Uniform in 0..n-1."""
        ...


@dataclass(slots=True)
class SlotTable:
    """The Q-table of one device over slots 1..last_slot; `slot` is where it stands now."""

    slot: int
    last_slot: int  # local epochs - 1: after the last epoch a merge is useless
    phi_q: float = 0.1  # learning rate
    psi: float = 0.9  # discount of what comes after
    epsilon: float = 0.1  # share of moves made at random
    values: list[list[float]] = field(default_factory=list)  # values[slot - 1][action]
    pending: tuple[int, int] | None = None  # (slot, action) whose reward is still to come

    def __post_init__(self) -> None:
        at_least_one("slots", "last_slot", self.last_slot)
        share("slots", "phi_q", self.phi_q)
        share("slots", "psi", self.psi)
        share("slots", "epsilon", self.epsilon)
        self.slot = self._clip(self.slot)
        if not self.values:
            self.values = [[0.0] * len(MOVES) for _ in range(self.last_slot)]

    def choose(self, chance: Chance) -> int:
        """Move (epsilon-greedy; staying wins ties) and return the new slot."""
        explore = chance.random() < self.epsilon
        action = chance.below(len(MOVES)) if explore else self._best()
        self.pending = (self.slot, action)
        self.slot = self._clip(self.slot + MOVES[action])
        return self.slot

    def reward(self, reward: float) -> None:
        """Learn from the last move: loss just before the merge minus loss just after.

        Without a move since the last reward nothing is learned. Raises NotFinite, and learns
        nothing, when `reward` is NaN or infinite.
        """
        if not math.isfinite(reward):
            raise NotFinite(f"the merge's reward is {reward}; lower the learning rate")
        if self.pending is None:
            return
        slot, action = self.pending
        known = self.values[slot - 1][action]
        target = reward + self.psi * max(self.values[self.slot - 1])
        self.values[slot - 1][action] = known + self.phi_q * (target - known)
        self.pending = None

    def to_dict(self) -> dict[str, Any]:
        """What a device keeps on disk, as JSON values. Hyperparameters come from the task."""
        return {
            "slot": self.slot,
            "values": [list(row) for row in self.values],
            "pending": None if self.pending is None else list(self.pending),
        }

    @classmethod
    def from_dict(
        cls,
        state: Mapping[str, Any],
        *,
        phi_q: float = 0.1,
        psi: float = 0.9,
        epsilon: float = 0.1,
    ) -> SlotTable:
        """Rebuild from `to_dict`. Raises DataError when `state` is not such a dict."""
        try:
            values = [[float(value) for value in row] for row in state["values"]]
            pending = None if state["pending"] is None else _pair(state["pending"])
            slot = int(state["slot"])
            _check(slot, values, pending)
        except (KeyError, TypeError, ValueError, OverflowError) as wrong:
            raise DataError(
                f"the slot table kept on disk is damaged ({wrong}); delete it"
            ) from None
        return cls(slot, len(values), phi_q, psi, epsilon, values, pending)

    def _best(self) -> int:
        row = self.values[self.slot - 1]
        best = max(row)
        return STAY if row[STAY] == best else row.index(best)

    def _clip(self, slot: int) -> int:
        return min(self.last_slot, max(1, slot))


def _pair(items: list[int]) -> tuple[int, int]:
    slot, action = items
    return int(slot), int(action)


def _check(slot: int, values: list[list[float]], pending: tuple[int, int] | None) -> None:
    if not all(len(row) == len(MOVES) and all(map(math.isfinite, row)) for row in values):
        raise ValueError("values is not rows of three finite numbers")
    if not 1 <= slot <= len(values):
        raise ValueError(f"slot {slot} is outside 1..{len(values)}")
    if pending is not None and not (
        1 <= pending[0] <= len(values) and 0 <= pending[1] < len(MOVES)
    ):
        raise ValueError(f"pending is {pending}")
