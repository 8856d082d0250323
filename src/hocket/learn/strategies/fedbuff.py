"""FedBuff: sum updates in a buffer; K of them make one version.

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba. Federated Learning with Buffered
Asynchronous Aggregation. AISTATS 2022. arXiv:2106.06639
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hocket.core.ids import Version
from hocket.core.ranges import at_least_one, positive
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Buffered, Update
from hocket.learn.pool import POOL
from hocket.learn.sparse import accumulate
from hocket.learn.strategies.recalled import check_names, tensor, whole_number


@dataclass(slots=True)
class Buffer:
    """The updates since the last version, already summed: one vector, whatever the goal."""

    total: Tensor  # float64, so that the order of arrival moves the model by one ulp at most
    fill: int = 0


@dataclass(frozen=True, slots=True)
class FedBuff:
    """x <- x + server_lr / K * sum of delta_i / sqrt(1 + tau_i), tau = t - o.

    The sum is divided by K, not by the weights, and by K at every entry: what few submodels hold
    moves less. Deltas count from the model that the device received.
    """

    goal: int = 10  # K: updates per version
    server_lr: float = 1.0  # of the mean; K times smaller where others take the sum
    kind: Literal["fedbuff"] = "fedbuff"

    def __post_init__(self) -> None:
        at_least_one(self.kind, "goal", self.goal)
        positive(self.kind, "server_lr", self.server_lr)

    def init(self, model: Tensor) -> Buffer:
        """An empty buffer."""
        return Buffer(torch.zeros_like(model, dtype=torch.float64))

    def step(
        self,
        now: Global[Tensor],
        memory: Buffer,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 - the protocol's; only mixing rules need the base
    ) -> Step[Tensor, Buffer]:
        """Add the update to the buffer (in place); the K-th turns the buffer into a version."""
        tau = now.version - update.header.base_version
        discount = (1 + tau) ** -0.5
        accumulate(memory.total, update.delta, discount)
        memory.fill += 1
        version, weight = Version(now.version + 1), self.server_lr * discount / self.goal
        if memory.fill < self.goal:
            outcome = Buffered(version, weight, tau, memory.fill, self.goal)
            return Step(now, memory, outcome)
        moved = memory.total.mul_(self.server_lr / self.goal).add_(now.model)
        after = Global(POOL.take(len(moved)).copy_(moved), version)
        memory.total.zero_()
        memory.fill = 0
        return Step(after, memory, Applied(version, weight, tau))

    def keep(self, memory: Buffer) -> Memory[Tensor]:
        """The sum, copied, and how many updates are in it; an empty buffer has no sum."""
        tensors = {"total": memory.total.clone()} if memory.fill else {}
        return Memory({"kind": self.kind, "fill": memory.fill}, tensors)

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Buffer:
        """The buffer as it was. Raises CorruptState."""
        buffer = self.init(model)
        filled = bool(kept.facts.get("fill"))
        check_names(self.kind, kept, ("fill",), {"total"} if filled else set())
        if filled:
            buffer.fill = whole_number(self.kind, kept, "fill", 1, self.goal - 1)
            total = tensor(self.kind, kept, "total", tuple(model.shape), torch.float64)
            buffer.total.copy_(total)
        else:
            whole_number(self.kind, kept, "fill", 0, 0)
        return buffer
