"""FedBuff: sum updates in a buffer; K of them make one version.

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba. Federated Learning with Buffered
Asynchronous Aggregation. AISTATS 2022. arXiv:2106.06639
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from hocket.core.ids import Version
from hocket.core.ranges import at_least_one, positive
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Buffered, Update
from hocket.learn.sparse import accumulate
from hocket.learn.strategies import buffers
from hocket.learn.strategies.buffers import Buffer
from hocket.learn.strategies.next_version import closed, moved


@dataclass(frozen=True, slots=True)
class FedBuff:
    """x <- x + server_lr / K * sum of delta_i / sqrt(1 + tau_i), tau = t - o.

    The sum is divided by K, not by the weights, and by K at every entry: what few submodels hold
    moves less. Deltas count from the model that the device received.
    """

    goal: int = 10  # K: updates per version
    server_lr: float = 1.0  # of the mean; K times smaller where others take the sum
    kind: Literal["fedbuff"] = "fedbuff"
    waits_for: ClassVar[str] = "goal"

    def __post_init__(self) -> None:
        at_least_one(self.kind, "goal", self.goal)
        positive(self.kind, "server_lr", self.server_lr)

    def init(self, model: Tensor) -> Buffer:
        """An empty buffer."""
        return buffers.empty(model)

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
        return Step(self._after(now, memory), memory, Applied(version, weight, tau))

    def close(self, now: Global[Tensor], memory: Buffer) -> Step[Tensor, Buffer] | None:
        """The version of those that have come, as with a goal of so many: K is their number."""
        return closed(self._after(now, memory), memory) if memory.fill else None

    def _after(self, now: Global[Tensor], memory: Buffer) -> Global[Tensor]:
        after = moved(now, memory.total.mul_(self.server_lr / memory.fill))
        buffers.clear(memory)
        return after

    def keep(self, memory: Buffer) -> Memory[Tensor]:
        """The sum, copied, and how many updates are in it; an empty buffer has no sum."""
        kept = buffers.keep(memory)
        return Memory({"kind": self.kind, **kept.facts}, kept.tensors)

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Buffer:
        """The buffer as it was. Raises CorruptState."""
        return buffers.recall(self.kind, kept, model, self.goal)
