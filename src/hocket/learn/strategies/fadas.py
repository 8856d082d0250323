"""FADAS: a buffer whose mean is the gradient of an adaptive server optimiser (AMSGrad).

Wang, Wang, Lu, Chen. FADAS: Towards Federated Adaptive Asynchronous Optimization. ICML 2024.
arXiv:2407.18365. Algorithm 1 with the delay-adaptive learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hocket.core.ids import Version
from hocket.core.ranges import at_least_one, not_negative, positive
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Buffered, Update
from hocket.learn.pool import POOL
from hocket.learn.sparse import accumulate
from hocket.learn.strategies import buffers
from hocket.learn.strategies.below_one import below_one
from hocket.learn.strategies.buffers import Buffer
from hocket.learn.strategies.next_version import closed
from hocket.learn.strategies.recalled import tensor, whole_number

_MOMENTS = ("mean", "square", "largest")
_MOST_VERSIONS = 1 << 63


@dataclass(slots=True)
class Moments:
    """The buffer, and what the optimiser remembers: three vectors (n, float32)."""

    buffer: Buffer
    mean: Tensor  # m
    square: Tensor  # v
    largest: Tensor  # the largest v so far, at each entry
    tau: int = 0  # the largest in the buffer


@dataclass(frozen=True, slots=True)
class Fadas:
    """x <- x + lr m / (sqrt(u) + eps), once K updates have come; D is their plain mean.

    m <- beta1 m + (1 - beta1) D, v <- beta2 v + (1 - beta2) D^2, u <- max(u, v) at each entry, all
    from 0 and without correction for that. lr = server_lr while the largest tau in the buffer is at
    most tau_limit, else min(server_lr, 1 / tau). `tau_limit` has a default of ours: the paper's
    tau_c is unknown to us.

    Every entry moves by about lr however small D is, those of no gradient too (the running
    statistics of batch norm): tune server_lr. Updates of submodels are refused.
    """

    goal: int = 10  # K: updates per version
    server_lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    tau_limit: int = 10
    kind: Literal["fadas"] = "fadas"
    waits_for: ClassVar[str] = "goal"

    def __post_init__(self) -> None:
        at_least_one(self.kind, "goal", self.goal)
        positive(self.kind, "server_lr", self.server_lr)
        below_one(self.kind, "beta1", self.beta1)
        below_one(self.kind, "beta2", self.beta2)
        positive(self.kind, "eps", self.eps)
        not_negative(self.kind, "tau_limit", self.tau_limit)

    def init(self, model: Tensor) -> Moments:
        """An empty buffer, and moments of 0."""
        mean, square, largest = (torch.zeros_like(model) for _ in _MOMENTS)
        return Moments(buffers.empty(model), mean, square, largest)

    def step(
        self,
        now: Global[Tensor],
        memory: Moments,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 - the protocol's; only mixing rules need the base
    ) -> Step[Tensor, Moments]:
        """Add the update to the buffer (in place); the K-th turns the buffer into a version.

        The weight that is told is 1 / K, its share in D. Raises InvalidUpdate for an update of a
        submodel.
        """
        buffers.check_whole(self.kind, update)
        buffer = memory.buffer
        tau = now.version - update.header.base_version
        accumulate(buffer.total, update.delta, 1.0)
        buffer.fill += 1
        memory.tau = max(memory.tau, tau)
        version, weight = Version(now.version + 1), 1 / self.goal
        if buffer.fill < self.goal:
            outcome = Buffered(version, weight, tau, buffer.fill, self.goal)
            return Step(now, memory, outcome)
        return Step(self._after(now, memory), memory, Applied(version, weight, tau))

    def close(self, now: Global[Tensor], memory: Moments) -> Step[Tensor, Moments] | None:
        """The version of those that have come, as with a goal of so many: D is their mean."""
        return closed(self._after(now, memory), memory) if memory.buffer.fill else None

    def learning_rate(self, tau: int) -> float:
        """Lr of a buffer whose stalest update has this tau."""
        return self.server_lr if tau <= self.tau_limit else min(self.server_lr, 1 / tau)

    def _after(self, now: Global[Tensor], memory: Moments) -> Global[Tensor]:
        """The next version; the moments learn from the buffer in place, which is empty then."""
        gradient = memory.buffer.total.div_(memory.buffer.fill).to(torch.float32)
        memory.mean.mul_(self.beta1).add_(gradient, alpha=1 - self.beta1)
        memory.square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        torch.maximum(memory.largest, memory.square, out=memory.largest)
        after = torch.sqrt(memory.largest, out=POOL.take(len(now.model))).add_(self.eps)
        torch.div(memory.mean, after, out=after)
        after.mul_(self.learning_rate(memory.tau)).add_(now.model)
        memory.tau = 0
        buffers.clear(memory.buffer)
        return Global(after, Version(now.version + 1))

    def keep(self, memory: Moments) -> Memory[Tensor]:
        """The buffer and the moments, copied."""
        kept = buffers.keep(memory.buffer)
        moments = {name: getattr(memory, name).clone() for name in _MOMENTS}
        facts = {"kind": self.kind, **kept.facts, "tau": memory.tau}
        return Memory(facts, {**kept.tensors, **moments})

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Moments:
        """The buffer and the moments as they were. Raises CorruptState."""
        buffer = buffers.recall(self.kind, kept, model, self.goal, facts=("tau",), tensors=_MOMENTS)
        mean, square, largest = (
            tensor(self.kind, kept, name, tuple(model.shape), torch.float32).clone()
            for name in _MOMENTS
        )
        tau = whole_number(self.kind, kept, "tau", 0, _MOST_VERSIONS if buffer.fill else 0)
        return Moments(buffer, mean, square, largest, tau)
