"""Aggregation rules and a slot policy on floats, with every kind of memory that must be kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from hocket.core.ids import DeviceId, Version
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Buffered, Dropped, DropReason, Update
from hocket.errors import NotFinite

Scalar = Step[float, Any]


@dataclass(frozen=True, slots=True)
class Mixing:
    """Mixes each model in on arrival, as FedAsync does; it remembers nothing."""

    kind: str = "mixing"

    def init(self, model: float) -> None:
        """It remembers nothing."""

    def step(self, now: Global[float], memory: None, update: Update[float], base: float) -> Scalar:
        tau = _tau(now, update)
        return Step(*_mixed(now, memory, update, base, 0.5 / (1 + tau)))

    def keep(self, memory: None) -> Memory[float]:  # noqa: ARG002 -- the protocol's
        return Memory()

    def recall(self, kept: Memory[float], model: float) -> None:
        """It remembers nothing."""


@dataclass(frozen=True, slots=True)
class Controlled:
    """Mixes less of a device the more often it was heard: a memory by device, as FedASMU's."""

    kind: str = "controlled"

    def init(self, model: float) -> dict[DeviceId, int]:  # noqa: ARG002 -- the protocol's
        return {}

    def step(
        self,
        now: Global[float],
        memory: dict[DeviceId, int],
        update: Update[float],
        base: float,
    ) -> Scalar:
        heard = memory.get(update.header.device_id, 0)
        step = Step(*_mixed(now, memory, update, base, 1 / (2 + heard)))
        memory[update.header.device_id] = heard + 1
        return step

    def keep(self, memory: dict[DeviceId, int]) -> Memory[float]:
        return Memory({"heard": dict(memory)})

    def recall(self, kept: Memory[float], model: float) -> dict[DeviceId, int]:  # noqa: ARG002 -- the protocol's
        return dict(kept.facts["heard"])


@dataclass(slots=True)
class Buffer:
    total: float = 0.0
    fill: int = 0


@dataclass(frozen=True, slots=True)
class Buffering:
    """Sums `goal` discounted deltas to one version; with `rounds`, of the newest base only."""

    goal: int
    rounds: bool = False
    waits_for: ClassVar[str] = "goal"

    @property
    def kind(self) -> str:
        return "rounds" if self.rounds else "buffering"

    def init(self, model: float) -> Buffer:  # noqa: ARG002 -- the protocol's
        return Buffer()

    def step(
        self,
        now: Global[float],
        memory: Buffer,
        update: Update[float],
        base: float,  # noqa: ARG002 -- the protocol's; only mixing rules need the base
    ) -> Scalar:
        tau = _tau(now, update)
        if self.rounds and tau:
            return Step(now, memory, Dropped(DropReason.ROUND_OVER, "train anew", tau))
        discount = (1 + tau) ** -0.5
        memory.total += discount * update.delta
        memory.fill += 1
        version, weight = Version(now.version + 1), discount / self.goal
        if memory.fill < self.goal:
            return Step(now, memory, Buffered(version, weight, tau, memory.fill, self.goal))
        return Step(self._after(now, memory), memory, Applied(version, weight, tau))

    def close(self, now: Global[float], memory: Buffer) -> Scalar | None:
        """The mean of those that have come."""
        if not memory.fill:
            return None
        after = self._after(now, memory)
        return Step(after, memory, Applied(after.version, 0.0, 0))

    def _after(self, now: Global[float], memory: Buffer) -> Global[float]:
        after = Global(now.model + memory.total / memory.fill, Version(now.version + 1))
        memory.total, memory.fill = 0.0, 0
        return after

    def keep(self, memory: Buffer) -> Memory[float]:
        return Memory({"fill": memory.fill}, {"total": memory.total})

    def recall(self, kept: Memory[float], model: float) -> Buffer:  # noqa: ARG002 -- the protocol's
        return Buffer(kept.tensors["total"], kept.facts["fill"])


AnyScalarRule = Mixing | Controlled | Buffering


@dataclass(slots=True)
class RunningMean:
    """A slot policy whose only weight is the running mean of the rewards, in their order."""

    mean: float = 0.0

    def propose(self, seed: int) -> int:
        return 1 + (seed + (self.mean > 0)) % 2

    def reinforce(self, slot: int, reward: float) -> None:
        self.mean = 0.75 * self.mean + 0.25 * (reward + slot)

    def keep(self) -> Memory[float]:
        return Memory({"mean": self.mean})

    def recall(self, kept: Memory[float]) -> None:
        self.mean = kept.facts["mean"]


def _tau(now: Global[float], update: Update[float]) -> int:
    if not math.isfinite(update.delta):
        raise NotFinite("the update holds NaN or infinite values; lower the learning rate")
    return now.version - update.header.base_version


def _mixed(
    now: Global[float], memory: Any, update: Update[float], base: float, weight: float
) -> tuple[Global[float], Any, Applied]:
    tau = _tau(now, update)
    model = (1 - weight) * now.model + weight * (base + update.delta)
    made = Global(model, Version(now.version + 1))
    return made, memory, Applied(made.version, weight, tau)
