"""PORT: average a buffer by staleness, and by how far each update agrees with the last step.

Su, Li. How Asynchronous can Federated Learning Be? IWQoS 2022. The formula is that of the authors'
own framework, Plato (examples/async/port); the defaults of alpha and beta are those of AFL-Lib,
Plato's are 1 and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hocket.core.ids import Version
from hocket.core.ranges import at_least_one, not_negative, positive
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Buffered, Update
from hocket.learn.inner import inner
from hocket.learn.sparse import accumulate, inner_of
from hocket.learn.strategies import buffers
from hocket.learn.strategies.buffers import Buffer
from hocket.learn.strategies.holders import Holders, recalled_part
from hocket.learn.strategies.mixing import square_of
from hocket.learn.strategies.next_version import closed, moved
from hocket.learn.strategies.parts import examples_of
from hocket.learn.strategies.recalled import foreign, number, tensor, truth

_FRESH = 1
"""Up to this tau an update counts as agreeing with the last step, as in Plato."""


@dataclass(slots=True)
class Arrivals:
    """What has come since the last version, and where that version went."""

    buffer: Buffer  # sum of raw weight * delta
    weights: Holders  # sums of the raw weights, at each entry
    direction: Tensor  # x_t - x_(t-1) (n, float32); 0 before the first step; never changed in place


@dataclass(frozen=True, slots=True)
class Port:
    """x <- x + sum of raw_i delta_i / sum of raw_i, once K = `minimum` updates have come.

    raw_i = n_i (alpha S / (tau_i + S) + beta (cos_i + 1) / 2), where tau_i = t - o, S = `bound` and
    cos_i is the cosine between delta_i and the last step x_t - x_(t-1); it counts as 1 while
    tau_i <= 1, or where one of them is 0. Submodels are averaged at each entry over those that
    hold it, and compared on what they hold.

    The paper also has the server tell a device whose tau exceeds S to push at once, after the epoch
    it is in. Slow devices are not told here: their updates come when they come, and nothing stale
    is dropped but what the task's own limit drops. All that S does is to weigh them.
    """

    minimum: int = 10  # K: updates per version
    bound: int = 10  # S: at this tau the part of staleness is half of what it is for a fresh update
    alpha: float = 3.0  # how much freshness weighs
    beta: float = 1.0  # how much agreement weighs
    kind: Literal["port"] = "port"
    waits_for: ClassVar[str] = "minimum"

    def __post_init__(self) -> None:
        at_least_one(self.kind, "minimum", self.minimum)
        at_least_one(self.kind, "bound", self.bound)
        positive(self.kind, "alpha", self.alpha)
        not_negative(self.kind, "beta", self.beta)

    def init(self, model: Tensor) -> Arrivals:
        """An empty buffer, and no step so far."""
        return Arrivals(buffers.empty(model), Holders(0.0), torch.zeros_like(model))

    def step(
        self,
        now: Global[Tensor],
        memory: Arrivals,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 - the protocol's; only mixing rules need the base
    ) -> Step[Tensor, Arrivals]:
        """Add the update to the buffer (in place); the K-th turns the buffer into a version.

        The weight that is told is raw_i / n_i against K updates of the freshest kind. Raises
        InvalidUpdate when `num_examples` is below 1.
        """
        examples = examples_of(update)
        tau = now.version - update.header.base_version
        cosine = 1.0 if tau <= _FRESH else _cosine(update, memory.direction)
        factor = self.factor(tau, cosine)
        buffer = memory.buffer
        accumulate(buffer.total, update.delta, examples * factor)
        memory.weights.add(update.held, examples * factor, buffer.total)
        buffer.fill += 1
        version = Version(now.version + 1)
        weight = factor / (self.alpha + self.beta) / self.minimum
        if buffer.fill < self.minimum:
            outcome = Buffered(version, weight, tau, buffer.fill, self.minimum)
            return Step(now, memory, outcome)
        return Step(_after(now, memory), memory, Applied(version, weight, tau))

    def close(self, now: Global[Tensor], memory: Arrivals) -> Step[Tensor, Arrivals] | None:
        """The version of those that have come, as with a minimum of so many."""
        return closed(_after(now, memory), memory) if memory.buffer.fill else None

    def factor(self, tau: int, cosine: float) -> float:
        """raw_i / n_i: in (0, alpha + beta], falling with tau."""
        return self.alpha * self.bound / (tau + self.bound) + self.beta * (cosine + 1) / 2

    def keep(self, memory: Arrivals) -> Memory[Tensor]:
        """The sums, copied, and the last step as it is."""
        kept, weights = buffers.keep(memory.buffer), memory.weights.keep("weights")
        parts = memory.weights.part is not None
        facts = {"kind": self.kind, **kept.facts, **weights.facts, "parts": parts}
        return Memory(facts, {**kept.tensors, **weights.tensors, "direction": memory.direction})

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Arrivals:
        """The buffer and the last step as they were. Raises CorruptState."""
        parts = truth(self.kind, kept, "parts")
        tensors = {"direction", *(["part_weights"] if parts else [])}
        facts = ("full_weights", "parts")
        buffer = buffers.recall(self.kind, kept, model, self.minimum, facts=facts, tensors=tensors)
        full = number(self.kind, kept, "full_weights")
        if (full > 0 or parts) != (buffer.fill > 0):
            raise foreign(self.kind, f"{buffer.fill} updates weigh {full}")
        weights = Holders(full, recalled_part(self.kind, kept, "weights", model))
        direction = tensor(self.kind, kept, "direction", tuple(model.shape), torch.float32)
        return Arrivals(buffer, weights, direction)


def _after(now: Global[Tensor], memory: Arrivals) -> Global[Tensor]:
    after = moved(now, memory.buffer.total.div_(memory.weights.per_entry()))
    memory.direction = torch.sub(after.model, now.model)
    memory.weights = Holders(0.0)
    buffers.clear(memory.buffer)
    return after


def _cosine(update: Update[Tensor], direction: Tensor) -> float:
    """Between the delta and the direction, on the entries that the update holds; 1 if one is 0."""
    along = direction if update.held is None else direction * update.held
    scale = math.sqrt(square_of(update)) * math.sqrt(inner(along, along))
    if not 0 < scale < math.inf:
        return 1.0
    return max(-1.0, min(1.0, inner_of(update.delta, direction) / scale))
